"""The flavour of rockpool: it takes the time step from `r`, as `dt = tau/(1 + r)`, and cuts an LI's tau to an integer.

    LI:       v = exp(-dt/tau)*(v + x)
    CubaLIF:  i = exp(-dt/tau)*(i + x);  v = exp(-dt/tau)*v + i, then it counts

A leak is an LI with `tau = 1`, `dt = -ln(decay)`, behind an input divided by the decay. A neuron that forgets at once
is a CubaLIF with `tau = 1`, `dt = 40`, behind an input multiplied by exp(40).
"""

from __future__ import annotations

import nir
import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.dialects.counting import CountingDialect
from psu_deploy.exporters.nir.primitives import Vertex
from psu_deploy.machine.ops.fields import Shape

_STEP = 40.0


class RockpoolDialect(CountingDialect):
    """Affine, LI, CubaLIF; one axis everywhere."""

    drive = float(np.exp(_STEP))
    slack = 2.0**-20
    one = 2.0**-20  # it counts to 65536 at most

    def write_leak(self, vertex: Vertex, leak: primitives.Leak, shape: Shape) -> str:
        """Gains are 1/decay here; see `passes.gains_before_decay`."""
        decay = leak.decays[0]
        if set(leak.decays) != {decay} or not 0.0 < decay < 1.0:
            raise Refusal(
                f"rockpool reads leaks of one decay per layer, between 0 and 1, not {set(leak.decays)}",
                "use PSU, or another simulator",
            )
        if shape == (1,):
            raise Refusal("rockpool cannot read a leak of one neuron", "use two neurons or more")
        self.nodes[vertex.name] = nir.LI(
            tau=np.ones(shape), r=np.full(shape, 1 / -np.log(decay) - 1), v_leak=np.zeros(shape)
        )
        return vertex.name

    def at_once(self, threshold: float, shape: Shape) -> nir.CubaLIF:
        ones, zeros = np.ones(shape), np.zeros(shape)
        return nir.CubaLIF(
            tau_syn=ones,
            tau_mem=ones.copy(),
            r=np.full(shape, 1 / _STEP - 1),
            v_leak=zeros,
            v_threshold=np.full(shape, threshold, np.float32),
            v_reset=zeros.copy(),
            w_in=ones.copy(),
        )
