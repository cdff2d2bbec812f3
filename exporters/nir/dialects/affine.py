"""The flavour of the stepwise simulators: norse, snntorch and SpikingJelly know no LI, Scale or Threshold.

A leak is a cycle of two affine nodes, because every one of them delays a feedback edge by one step; a threshold is a
CubaLIF whose time constants are one step, so that it remembers nothing:

    state[t] = x[t] + back[t-1],  back = decay*state
    spike = 1 if x > v_threshold else 0
"""

from __future__ import annotations

import nir
import numpy as np

from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.dialects.base import Dialect
from psu_deploy.exporters.nir.dialects.canonical import lif
from psu_deploy.exporters.nir.primitives import Vertex, mix
from psu_deploy.exporters.nir.target import DT
from psu_deploy.machine.ops.fields import Array, Shape


class AffineDialect(Dialect):
    """Affine, Conv1d, Conv2d, SumPool2d, CubaLIF, LIF."""

    def write_leak(self, vertex: Vertex, leak: primitives.Leak, shape: Shape) -> str:
        """Gains are 1 here; see `passes.unit_gains`."""
        return self._state(vertex, np.diag(leak.decays), shape)

    def write_taps(self, vertex: Vertex, taps: primitives.Taps, shape: Shape) -> str:
        """A shift register: the newest copy is the input, every other what the one before it was."""
        first = mix(np.eye(taps.order, 1))
        entry = f"{vertex.name}__in"
        self.nodes[entry] = self.pointwise(entry, first.matrix, first.bias, shape)
        self._state(vertex, np.eye(taps.order, k=-1), self.shapes[vertex.name])
        self.connect(entry, vertex.name)
        return entry

    def write_step(self, vertex: Vertex, step: primitives.Step, shape: Shape) -> str:
        """All thresholds are alike here; see `passes.one_threshold`."""
        self.nodes[vertex.name] = memoryless(step.thresholds[0], shape)
        return vertex.name

    def write_fire(self, vertex: Vertex, fire: primitives.Fire, shape: Shape) -> str:
        forgets = fire.tau == 1.0 and not self.target.memoryless_lif
        self.nodes[vertex.name] = memoryless(fire.threshold, shape) if forgets else lif(fire, shape)
        return vertex.name

    def _state(self, vertex: Vertex, transition: Array, shape: Shape) -> str:
        copies = len(transition)
        self.nodes[vertex.name] = self.pointwise(vertex.name, np.eye(copies), np.zeros(copies), shape)
        if transition.any():
            back = f"{vertex.name}__back"
            self.nodes[back] = self.pointwise(back, transition, np.zeros(copies), shape)
            self.connect(vertex.name, back)
            self.connect(back, vertex.name, back=True)
        return vertex.name


def memoryless(threshold: float, shape: Shape) -> nir.CubaLIF:
    """`1 if x > threshold`: tau_syn = tau_mem = dt. In float64, because one float32 below dt is refused."""
    one_step, ones, zeros = np.full(shape, DT), np.ones(shape), np.zeros(shape)
    return nir.CubaLIF(
        tau_syn=one_step,
        tau_mem=one_step.copy(),
        r=ones,
        v_leak=zeros,
        v_threshold=np.full(shape, threshold, dtype=np.float32),
        v_reset=zeros.copy(),
        w_in=ones.copy(),
    )
