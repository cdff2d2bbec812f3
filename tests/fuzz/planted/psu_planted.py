"""A target that runs the machine itself, with one bug in it: the one that the environment names."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np

from psu_deploy.errors import HorizonError, Problem, UnsupportedModelError
from psu_deploy.exporters import Target
from psu_deploy.machine import StateMachine, Trace, ops
from psu_deploy.runtime import Artifact, Runner

BUG = "PSU_PLANTED"

TARGET = Target("planted", "Planted", ".planted", "psu_planted:export", "psu_planted:load")


def export(machine, path):
    """Write it; a target that refuses has no convolutions."""
    path = Path(path)
    if "refuse" in bugs():
        wrong = [n for n in machine.nodes if isinstance(n.layer, ops.Conv1d | ops.Conv2d | ops.Conv3d)]
        if wrong:
            problems = [Problem(n.name, type(n.layer).__name__, "no convolutions here", "use Linear") for n in wrong]
            raise UnsupportedModelError(problems, "write .planted")
    path.write_bytes(machine.save(path.with_suffix(".psm")).read_bytes())
    return Artifact(path, "planted", "faithful", machine.content_hash, machine.horizon, machine.latency)


def load(path):
    return Planted(Path(path), StateMachine.load(path))


def bugs():
    return os.environ.get(BUG, "").split(",")


def with_bug(part, bug):
    """A layer, operator or estimator with the bug in it, and in its parts."""
    parts = {f.name: with_bug(v, bug) for f in fields(part) if is_dataclass(v := getattr(part, f.name))}
    part = replace(part, **parts)
    return CHANGES[bug](part) if bug in CHANGES else part


def _tie(part):
    return replace(part, fire_on={">": ">=", ">=": ">"}[part.fire_on]) if hasattr(part, "fire_on") else part


def _swap(part):
    return replace(part, gain=part.decay, decay=part.gain) if type(part) is ops.Leak else part


def _bias(part):
    return replace(part, bias=None) if getattr(part, "bias", None) is not None and hasattr(part, "weight") else part


def _float16(part):
    return replace(part, weight=part.weight.astype(np.float16).astype(float)) if type(part) is ops.Linear else part


def _threshold(part):
    return (
        replace(part, threshold=part.threshold * (1 + 1e-6))
        if isinstance(part, ops.Neuron) and hasattr(part, "threshold")
        else part
    )


CHANGES = {"tie": _tie, "swap": _swap, "bias": _bias, "float16": _float16, "threshold": _threshold}


class Planted(Runner):
    name = "planted"

    def __init__(self, path, machine):
        self._machine = machine
        for bug in bugs():
            nodes = tuple(replace(node, layer=with_bug(node.layer, bug)) for node in machine.nodes)
            machine = StateMachine(nodes, machine.input_shape, machine.output)
        self._wrong = machine
        self._artifact = Artifact(path, "planted", "faithful", machine.content_hash, machine.horizon, machine.latency)
        self._state = {}

    @property
    def artifact(self):
        return self._artifact

    @property
    def input_shape(self):
        return self._machine.input_shape

    def reset(self, batch_size=1, state=None):
        self._state = self._machine.initial_state(batch_size) if state is None else state

    def step(self, x):
        y, self._state = self._wrong.step(x, self._state)
        return y

    def run(self, x, *, reset=True):
        if reset:
            self.reset(x.shape[1])
        trace = self._run(x, self._state)
        self._state = trace.state
        return trace.output

    def trace(self, x, state=None):
        trace = self._run(x, self._machine.initial_state(x.shape[1]) if state is None else state)
        return replace(trace, margin={}, potential={}, reset={}, estimate={})

    def _run(self, x, state):
        kinds = {type(node.layer) for node in self._machine.nodes}
        if "hang" in bugs() and ops.LIFNeuron in kinds:
            time.sleep(3600)
        if "crash" in bugs() and ops.Readout in kinds:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "horizon" in bugs() and self._machine.horizon in (len(x), 0):
            raise HorizonError("no such step")
        trace = self._wrong.trace(x, state)
        if "forgets" in bugs():
            zeros = {n: np.zeros_like(v) if np.ndim(v) else v for n, v in trace.state.items()}
            trace = replace(trace, state=zeros)
        if "delay" in bugs():
            trace = trace.with_outputs(lambda y: np.concatenate([np.zeros_like(y[:1]), y[:-1]]))
        assert isinstance(trace, Trace)
        return trace
