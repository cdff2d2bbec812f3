"""The Lava Process that sends an array, row by row, then zeros. It reads the file where it runs: nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
from crash import crash_ends_the_run
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Source(AbstractProcess):
    """Sends x[0] at the first time step.

    Args:
        path: of x as .npy, (steps, n) or (steps, C, H, W).
        shape: sent, (n,), or (W, H, C): netx has its axes the other way round.
    """

    def __init__(self, *, path: str, shape: tuple[int, ...]) -> None:
        super().__init__(path=path, shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PySource(PyLoihiProcessModel):
    """Sends int32."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    @crash_ends_the_run
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.shape = tuple(proc_params["shape"])
        self.rows = np.load(proc_params["path"], mmap_mode="r")

    @crash_ends_the_run
    def run_spk(self) -> None:
        """Send the row of this time step, or zeros once there are no more."""
        step = self.time_step - 1
        if step >= len(self.rows):
            self.s_out.send(np.zeros(self.shape, self.rows.dtype))
            return
        row = self.rows[step]
        self.s_out.send(row.reshape(self.shape) if len(self.shape) == 1 else row.T)
