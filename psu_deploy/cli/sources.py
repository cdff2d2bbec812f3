"""What a person may name on the command line: a run folder, a saved machine, an artifact, an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.exporters import all_targets
from psu_deploy.files.atomic import as_npy, as_npz, write_whole
from psu_deploy.files.limits import MEMORY, memory_for, regular_size
from psu_deploy.machine import StateMachine

MACHINE_SUFFIX = ".psm"
MACHINE_FILE = "model.psm"
_RUN_FILES = (
    "recipe.json",
    MACHINE_FILE,
    "metrics.json",
    "weights.safetensors",
    "checkpoints/last.ckpt",
    "checkpoints/tuned.ckpt",
)
_SAMPLES = 8
_DECISIONS = 10_000_000
"""Of random input: samples, and fewer where the network decides more often than that."""

_MOST_DECISIONS = 100_000_000
"""Of a run's test data: all samples of a small network, a few of a large one, spread over the split."""

_RANDOM_BYTES = 16
"""Per number of random input: it is drawn in float64, compared, and kept in float32."""

_STEPS = 32
"""Of random input for a machine that is defined for any number of steps."""

_LONGEST_NAME = 60_000
"""Bytes; of a name in a zip file, a little less than it allows."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """A network to export or to verify.

    Attributes:
        machine: its state machine.
        model: the trained module, if there is one.
        data: test sequences (T, N, *features), if there are any; of a large network not all of them.
    """

    machine: StateMachine
    model: nn.Module | None = None
    data: Floats | None = None


def open_source(path: Path) -> Source:
    """A run folder or a saved machine.

    Raises:
        ArtifactError: if it is neither.
    """
    if path.is_dir():
        return _open_run(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; name a run folder or a saved machine ({MACHINE_SUFFIX})")
    if path.suffix in {target.suffix for target in all_targets().values()}:
        raise ArtifactError(
            f"{path} is an export; name the run folder or the saved machine ({MACHINE_SUFFIX}) it is of"
        )
    if path.suffix != MACHINE_SUFFIX:
        raise ArtifactError(
            f"{path} is neither a run folder nor a saved machine ({MACHINE_SUFFIX}); "
            f"for a published checkpoint: psu-deploy import {path} --out model{MACHINE_SUFFIX}"
        )
    return Source(StateMachine.load(path))


def open_machine(path: Path) -> StateMachine:
    """The machine of a run folder, or a saved one; what trained it need not be installed.

    Raises:
        ArtifactError: if it is neither.
    """
    if path.is_dir() and (path / MACHINE_FILE).is_file():
        return StateMachine.load(path / MACHINE_FILE)
    return open_source(path).machine


def read_array(path: Path) -> NDArray[Any]:
    """An array from a .npy file; never a pickle.

    The file is mapped before it is read: numpy then refuses a header that claims more than the file has, where reading
    would allocate it first.

    Raises:
        ArtifactError: if the file is missing, truncated, or holds no plain array.
    """
    regular_size(path)
    try:
        with np.errstate(over="raise"):  # sizes whose product is no size
            mapped = np.lib.format.open_memmap(path, mode="r")
        if not mapped.dtype.itemsize:  # there may be as many of them as a header likes
            raise ValueError(f"it holds {mapped.dtype}, entries of no size")
        return np.array(mapped)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a header is Python that numpy evaluates: what it raises is what somebody wrote there
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtifactError(f"{path} is truncated or is not a .npy file of numbers: {reason}") from error


def check_free(option: str, path: Path, *sources: Path) -> None:
    """Raise `InputError` if what an option names is read by the same command, by this name or another.

    Args:
        option: that names the file to write.
        path: of this file.
        sources: files that are read; a run folder is read too.
    """
    for source in (one for name in sources for one in _files_of(name)):
        if path.resolve() == source.resolve() or (path.exists() and source.exists() and path.samefile(source)):
            raise InputError(f"{option} {path} would overwrite {source}, which is read here; name another file")


def _files_of(path: Path) -> list[Path]:
    return [path / name for name in _RUN_FILES] if path.is_dir() else [path]


def check_array_file(path: Path, outputs: Sequence[str]) -> None:
    """Raise `InputError` unless a file can hold the outputs of these names: one as .npy, several as .npz."""
    if len(outputs) > 1 and path.suffix != ".npz":
        raise InputError(f"the outputs {', '.join(outputs)} are written as .npz, got {path}")
    taken = [name for name in outputs if f"{name}.npy" in outputs]
    if taken:  # numpy would give the one for the other
        raise InputError(f"a .npz cannot hold the outputs {taken[0]!r} and {taken[0] + '.npy'!r}: call one otherwise")
    if len(outputs) > 1 and max(len(name.encode()) for name in outputs) > _LONGEST_NAME:
        raise InputError(f"a .npz cannot hold an output with a name of more than {_LONGEST_NAME} bytes: shorten it")
    if len(outputs) == 1 and path.suffix != ".npy":
        raise InputError(f"an array is written as .npy, got {path}")


def write_arrays(path: Path, arrays: Any) -> None:
    """Write an array as .npy, or a dictionary of arrays as .npz, whole or not at all."""
    write_whole(path, as_npz(arrays) if isinstance(arrays, dict) else as_npy(arrays))


def random_spikes(machine: StateMachine, steps: int | None, batch: int | None, seed: int) -> Floats:
    """Random input spikes, one in five, (T, B, *features); T is the horizon where there is one."""
    for name, value, least in (("steps", steps, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise InputError(f"--{name} must be at least {least}, got {value}")
    length = (machine.max_steps or _STEPS) if steps is None else steps
    if batch is None:
        decisions = length * decisions_per_step(machine)
        batch = max(1, min(_SAMPLES, _DECISIONS // max(1, decisions)))
    numbers = length * batch * prod(machine.input_shape)
    if numbers * _RANDOM_BYTES > memory_for(0):
        raise InputError(
            f"{length} steps of {batch} sample(s) are {numbers} numbers of random input, more than {MEMORY} allows; "
            "ask for fewer --steps or a smaller --batch"
        )
    random = np.random.default_rng(seed)
    spikes = (random.random((length, batch, *machine.input_shape)) < 0.2).astype(np.float32)
    return np.repeat(spikes[:1], length, axis=0) if machine.static_input else spikes


def _open_run(path: Path) -> Source:
    from psu_deploy.training import load_run, test_data
    from psu_deploy.training.folder import data_of

    run = load_run(path)
    machine = StateMachine.load(path / MACHINE_FILE)
    steps = run.recipe.make_task().steps
    samples = max(1, _MOST_DECISIONS // (steps * max(1, decisions_per_step(machine))))
    return Source(machine, run.model, test_data(run.recipe, data_of(path), samples=samples)[0])


def decisions_per_step(machine: StateMachine) -> int:
    """How many neurons there are, each of which decides once per step and sample."""
    return sum(prod(machine.shapes[name]) for name in machine.spiking)
