"""The flavour of sinabs: time constants in steps.

    LI:   v = exp(-1/tau)*v + x
    LIF:  v = exp(-1/tau)*v + x, then it counts

A leak is an LI with `tau = -1/ln(decay)`.
"""

from __future__ import annotations

import nir
import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.dialects.base import per_copy, single
from psu_deploy.exporters.nir.dialects.counting import CountingDialect
from psu_deploy.exporters.nir.primitives import Vertex
from psu_deploy.machine.ops.fields import Shape

_AT_ONCE = 0.01
"""Steps; exp(-1/tau) is 4e-44, nothing."""


class SinabsDialect(CountingDialect):
    """Affine, convolutions, SumPool2d, Flatten, LI, LIF; one axis per neuron layer."""

    def write_leak(self, vertex: Vertex, leak: primitives.Leak, shape: Shape) -> str:
        """Gains are 1 here; see `passes.unit_gains`."""
        decays = np.asarray(leak.decays)
        if decays.max() >= 1.0:
            raise Refusal("sinabs has no leak that never forgets", "keep decays below 1")
        tau = np.where(decays > 0, -1 / np.log(np.maximum(decays, 1e-40)), _AT_ONCE)
        zeros = np.zeros(shape, np.float32)
        self.nodes[vertex.name] = nir.LI(
            tau=single(per_copy(tau, shape, len(tau))), r=np.ones(shape, np.float32), v_leak=zeros
        )
        return vertex.name

    def at_once(self, threshold: float, shape: Shape) -> nir.LIF:
        zeros = np.zeros(shape, np.float32)
        return nir.LIF(
            tau=np.full(shape, _AT_ONCE, np.float32),
            r=np.ones(shape, np.float32),
            v_leak=zeros,
            v_threshold=np.full(shape, threshold, np.float32),
            v_reset=zeros.copy(),
        )
