"""The canonical flavour: what the NIR specification says, no tricks.

LI, I, Delay, Threshold, Scale, Affine, convolutions, poolings, Flatten, and LIF or IF for neurons that reset to zero.
"""

from __future__ import annotations

import nir
import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.dialects.base import Dialect, per_copy, single
from psu_deploy.exporters.nir.primitives import Vertex, mix
from psu_deploy.exporters.nir.target import DT
from psu_deploy.machine.ops.fields import Shape


class CanonicalDialect(Dialect):
    """LI for every leak, `v += dt/tau * (v_leak - v + r*I)` with `dt/tau = 1 - decay` and `r = gain/(1 - decay)`."""

    def write_mix(self, vertex: Vertex, mix: primitives.Mix, shape: Shape) -> str:
        if mix.matrix.shape != (1, 1) or mix.bias.any():
            return super().write_mix(vertex, mix, shape)
        self.nodes[vertex.name] = nir.Scale(scale=np.full(shape, mix.matrix[0, 0], dtype=np.float32))
        return vertex.name

    def write_leak(self, vertex: Vertex, leak: primitives.Leak, shape: Shape) -> str:
        out, copies = self.shapes[vertex.name], len(leak.decays)
        decays, gains = (per_copy(values, out, copies) for values in (leak.decays, leak.gains))
        if (decays == 1).all():
            self.nodes[vertex.name] = nir.I(r=gains / DT)
        elif (decays < 1).all():
            forgets = 1 - decays
            self.nodes[vertex.name] = nir.LI(tau=DT / forgets, r=gains / forgets, v_leak=np.zeros(out))
        else:
            raise Refusal("a leak that never forgets beside others", "keep decays below 1")
        return self._copied(vertex, copies // leak.inputs, shape)

    def write_taps(self, vertex: Vertex, taps: primitives.Taps, shape: Shape) -> str:
        out = self.shapes[vertex.name]
        self.nodes[vertex.name] = nir.Delay(delay=per_copy(np.arange(taps.order) * DT, out, taps.order))
        return self._copied(vertex, taps.order, shape)

    def write_step(self, vertex: Vertex, step: primitives.Step, shape: Shape) -> str:
        self.nodes[vertex.name] = nir.Threshold(single(per_copy(step.thresholds, shape, len(step.thresholds))))
        return vertex.name

    def write_fire(self, vertex: Vertex, fire: primitives.Fire, shape: Shape) -> str:
        self.nodes[vertex.name] = lif(fire, shape)
        return vertex.name

    def _copied(self, vertex: Vertex, copies: int, shape: Shape) -> str:
        """In front of a node that works on copies: the node that makes them."""
        if copies == 1:
            return vertex.name
        before = f"{vertex.name}__copies"
        ones = mix(np.ones((copies, 1)))
        self.nodes[before] = self.pointwise(before, ones.matrix, ones.bias, shape)
        self.nodes[vertex.name] = self.nodes.pop(vertex.name)  # it runs after its copies
        self.connect(before, vertex.name)
        return before


def lif(fire: primitives.Fire, shape: Shape) -> nir.NIRNode:
    """NIR's own neuron: IF without leak, LIF with one; `r = tau/dt` where the input is not divided by tau."""
    threshold = np.full(shape, fire.threshold, dtype=np.float32)
    zeros = np.zeros(shape, dtype=np.float32)
    if fire.tau is None:
        return nir.IF(r=np.full(shape, 1 / DT), v_threshold=threshold, v_reset=zeros)
    tau = fire.tau * DT
    r = 1.0 if fire.decay_input else fire.tau
    return nir.LIF(
        tau=np.full(shape, tau), r=np.full(shape, r), v_leak=zeros, v_threshold=threshold, v_reset=zeros.copy()
    )
