"""A target of another package: weights as .npz, run in numpy. An example, and what the tests of plugins install."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError, InputError, InternalError, Problem, UnsupportedModelError
from psu_deploy.exporters import Option, Target
from psu_deploy.files.atomic import atomic_path
from psu_deploy.machine import StateMachine, Trace, ops
from psu_deploy.runtime import Artifact, Runner, Structure
from psu_deploy.verify import certify

TARGET = Target(
    name="npz",
    title="NPZ",
    suffix=".npz",
    export="psu_npz:export",
    load="psu_npz:load",
    packages={"psu-npz": "psu_npz"},
    options=(
        Option("label", ("export",), "text to keep in the file.", shown=("label", "none")),
        Option("double", ("run", "verify"), "compute in double precision.", bool),
        Option("slots", ("run",), "samples at a time.", int, default=8, within=(1, 64)),
    ),
)


def export(machine: StateMachine, path: Path, *, label: str = "") -> Artifact:
    """Write a chain of Linear and LIF."""
    problems = [
        Problem(node.name, type(node.layer).__name__, "this target has Linear and LIF", "use these")
        for node in machine.nodes
        if not isinstance(node.layer, ops.Linear | ops.LIFNeuron)
    ]
    if problems:
        raise UnsupportedModelError(problems, "write .npz")
    content = io.BytesIO()  # in memory: numpy would give a path another suffix
    np.savez(content, label=label, hash=machine.content_hash, input=machine.input_shape, **_arrays(machine))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        x = np.random.default_rng(0).normal(size=(4, 2, *machine.input_shape)).astype(np.float32)
        if not certify(machine, x, load(temporary).trace(x)).ok:
            raise InternalError("what was written does not compute what the machine computes; please report this")
    return load(path).artifact


def load(path: Path, *, double: bool = False, slots: int = 8) -> NpzRunner:
    """Run it in numpy."""
    return NpzRunner(path, np.float64 if double else np.float32)


def _arrays(machine: StateMachine) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in machine.nodes:
        if isinstance(node.layer, ops.Linear):
            found |= {f"{node.name}/weight": node.layer.weight, f"{node.name}/bias": node.layer.bias}
        elif isinstance(node.layer, ops.LIFNeuron):
            found[f"{node.name}/lif"] = np.array([node.layer.tau, node.layer.threshold])
    return found


class NpzRunner(Runner):
    """H = V + (I - V)/tau; S = H >= threshold; V = H (1 - S)."""

    name = "numpy"

    def __init__(self, path: Path, dtype: Any) -> None:
        try:
            self._file = dict(np.load(path))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"cannot read {path}: {error}") from error
        self._dtype = dtype
        self._artifact = Artifact(path, "npz", "faithful", str(self._file["hash"]), None, 0)
        self._v: dict[str, Any] = {}

    @property
    def artifact(self) -> Artifact:
        return self._artifact

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self._file["input"])

    @property
    def state(self) -> dict[str, Any]:
        return {name: value.copy() for name, value in self._v.items()}

    def reset(self, batch_size: int = 1, state: Any = None) -> None:
        if state is not None:
            raise InputError("it starts from zero")
        self._v = {}

    def step(self, x: Any) -> Any:
        return self._step(x)[0]

    def run(self, x: Any, *, reset: bool = True) -> Any:
        return self.trace(x).output

    def trace(self, x: Any, state: Any = None) -> Trace:
        self.reset(x.shape[1], state)
        rows = [self._step(x_t) for x_t in x]
        trace = Trace(np.stack([y for y, _ in rows]))
        for name in rows[0][1]:
            columns = [np.stack([neurons[name][i] for _, neurons in rows]) for i in range(3)]
            trace.spikes[name], trace.potential[name], trace.margin[name] = columns
            trace.reset[name] = np.zeros_like(columns[1])
        return trace

    def structure(self, machine: StateMachine) -> Structure:
        wrong = [
            f"{key} differs"
            for key, value in _arrays(machine).items()
            if key not in self._file or not np.array_equal(self._file[key], value)
        ]
        return Structure(tuple(wrong))

    def _step(self, x: Any) -> tuple[Any, dict[str, Any]]:
        value, neurons = x.astype(self._dtype), {}
        for key, array in self._file.items():
            name, _, kind = key.partition("/")
            if kind == "weight":
                value = value @ array.T.astype(self._dtype) + self._file[f"{name}/bias"].astype(self._dtype)
            elif kind == "lif":
                tau, threshold = array.astype(self._dtype)
                before = self._v.get(name, np.zeros_like(value))
                potential = before + (value - before) / tau
                value = (potential >= threshold).astype(self._dtype)
                self._v[name] = potential * (1 - value)
                neurons[name] = (value.astype(np.float32), potential, potential - threshold)
        return value.astype(np.float32), neurons
