"""One small network in every runner that needs nothing installed, and how to make each of them fail in the middle."""

from __future__ import annotations

import numpy as np

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.exporters.nir.machines import LEAK, STRICT, chain, linear, neuron

T, B = 6, 2
OPTIONS = {
    "onnx": {"threads": 1},
    "sequence": {"threads": 1},
    "nir": {"simulator": "canonical"},
    "lava": {"simulator": "integer"},
    "int8": {},
}
TARGETS = {"onnx": "onnx", "sequence": "onnx", "nir": "nir", "lava": "lava", "int8": "c"}
SUFFIX = {"onnx": ".onnx", "sequence": ".onnx", "nir": ".nir", "lava": ".net", "int8": ".c"}
KINDS = tuple(OPTIONS)

NETWORK = chain((3,), linear(4, 3), neuron(LEAK, None, STRICT), linear(2, 4), ops.Readout("mean"))
"""Without a horizon: layers a, b (neurons), c, d."""

BOUNDED = chain(
    (3,),
    linear(4, 3),
    neuron(LEAK, o.PartialSums(np.tril(np.random.default_rng(0).standard_normal((T, T))), np.zeros(T)), STRICT),
    linear(2, 4),
    ops.Readout("sum"),
)
"""The same with a learned matrix: six steps."""


def inputs(steps=T, batch=B, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (steps, batch, 3)).astype(np.float32)


def opened(machine, kind, folder):
    """Export and open."""
    calibrated = {"calibration": inputs()}
    options = {
        "nir": {"simulator": "canonical"},
        "sequence": {"sequence": True},
        "lava": calibrated,
        "int8": {"numerics": "int8", **calibrated},
    }
    artifact = psu.export(machine, folder / f"net{SUFFIX[kind]}", target=TARGETS[kind], **options.get(kind, {}))
    return psu.load(artifact, **OPTIONS[kind])


def engine_call(runner):
    """Where a runner calls its engine: (owner, name)."""
    places = {
        "OnnxRunner": ("_session", "run_with_iobinding"),
        "SequenceRunner": ("_session", "run"),
        "NirRunner": ("_engine", "advance"),
        "IntegerCRunner": ("_plain", "run"),
    }
    owner, name = places.get(type(runner).__name__, ("_reference", "advance"))
    return getattr(runner, owner), name


def fresh_start(runner):
    """What a runner's reset changes first: (owner, name)."""
    if type(runner).__name__ == "NirRunner":
        return runner._engine, "start"
    if type(runner).__name__ == "OnnxRunner":
        return runner, "_bind"
    if type(runner).__name__ == "SequenceRunner":
        return runner, "_zeros"
    if type(runner).__name__ == "IntegerCRunner":
        return runner._libraries[0], "states"
    return "psu_deploy.exporters.integers.runner", "Reference"
