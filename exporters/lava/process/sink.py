"""The Lava Process that writes what it receives to a file, where it runs: `Var.get` moves one number per message."""

from __future__ import annotations

from typing import Any

import numpy as np
from crash import crash_ends_the_run
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Sink(AbstractProcess):
    """Writes (steps, features) as .npy, features in the order C, H, W.

    Args:
        path: of the file.
        shape: received, (n,) or (W, H, C).
        steps: to write.
        offset: time steps before the first one that counts.
    """

    def __init__(self, *, path: str, shape: tuple[int, ...], steps: int, offset: int) -> None:
        super().__init__(path=path, shape=shape, steps=steps, offset=offset)
        self.a_in = InPort(shape=shape)


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PySink(PyLoihiProcessModel):
    """Receives int32."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    @crash_ends_the_run
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.offset, self.steps = proc_params["offset"], proc_params["steps"]
        shape = (self.steps, int(np.prod(proc_params["shape"])))
        self.rows = np.lib.format.open_memmap(proc_params["path"], mode="w+", dtype=np.int32, shape=shape)

    @crash_ends_the_run
    def run_spk(self) -> None:
        """Write the row of this time step, if it counts."""
        received = self.a_in.recv()
        step = self.time_step - 1 - self.offset
        if 0 <= step < self.steps:
            self.rows[step] = received.T.reshape(-1)
        if step == self.steps - 1:
            self.rows.flush()
