"""The Lava Process of a layer of neurons, and its model.

The model stands in this file because Lava looks for it here; what a neuron does is in `fixed_neurons`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from crash import crash_ends_the_run
from fixed_neurons import NEURONS
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Neuron(AbstractProcess):
    """A layer of neurons; samples of `steps` steps run through it without a gap.

    Numbers are parameters and not Vars: Lava's Vars would cast them without a word.

    Args:
        shape: of the layer, (n,) or (W, H, C).
        numbers: "type", and what a neuron of this type needs.
        bias: (C,), added to what comes in.
        steps: of a sample; the state is cleared at the first.
        offset: time steps before the first input arrives, 1 for each synapse on the way.
    """

    def __init__(self, *, shape: tuple[int, ...], numbers: dict[str, Any], bias: Any, steps: int, offset: int) -> None:
        super().__init__(shape=shape, numbers=numbers, bias=bias, steps=steps, offset=offset)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Neuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyNeuron(PyLoihiProcessModel):
    """Whole numbers of 24 bits; this says when a step is whose."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    @crash_ends_the_run
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        shape, numbers = tuple(proc_params["shape"]), proc_params["numbers"]
        self.neurons = NEURONS[numbers["type"]](numbers, shape)
        self.bias = proc_params["bias"].astype(np.int64)
        self.steps, self.offset = proc_params["steps"], proc_params["offset"]
        self.silence = np.zeros(shape, np.int64)

    @crash_ends_the_run
    def run_spk(self) -> None:
        """One time step of Lava: silence until the first input has come this far, then step after step."""
        a = self.a_in.recv()
        step = self.time_step - 1 - self.offset
        if step < 0:
            self.s_out.send(self.silence)
            return
        if step % self.steps == 0:
            self.neurons.clear()
        self.s_out.send(self.neurons.fire(a.astype(np.int64) + self.bias, step % self.steps))
