"""What a layer sees while it is lowered: its name, its state, the step counter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from psu_deploy.exporters.onnx.builder import Builder
from psu_deploy.machine.ops.fields import Shape


@dataclass
class Scope:
    """One layer's view of the graph under construction.

    Args:
        builder: takes the nodes.
        name: of the layer; prefix of all its values.
        shapes: of every input, per sample.
        current: role -> graph input that carries the layer's state.
        step: graph input with the number of steps done before this one; None if no layer needs it.
        start: the step at which the layer's first input arrives; its state stays as it is until then.
        binary: whether its (first) input is 0 or 1 everywhere.
        events: largest number of spikes for which it gathers rows; None = it does not.
    """

    builder: Builder
    name: str
    shapes: tuple[Shape, ...]
    current: Mapping[str, ir.Value]
    step: ir.Value | None
    start: int = 0
    binary: bool = False
    events: int | None = None
    following: dict[str, ir.Value] = field(default_factory=dict)

    @property
    def features(self) -> Shape:
        """Shape of its (first) input, per sample."""
        return self.shapes[0]

    def state(self, role: str) -> ir.Value:
        """The state before this step."""
        return self.current[role]

    def set_state(self, role: str, value: ir.Value) -> None:
        """The state after this step."""
        self.following[role] = self.gated(value, self.state(role), f"{self.name}.{role}.kept")

    def gated(self, value: ir.Value, otherwise: ir.Value, name: str) -> ir.Value:
        """The value, or another one as long as the layer has not started."""
        if self.start == 0:
            return value
        return self.builder.op("Where", self.reached(self.start), value, otherwise, name=name)

    def reached(self, step: int) -> ir.Value:
        """Whether the network has come to a step, bool, without batch."""
        b = self.builder
        return b.once(
            f"reached_{step}",
            lambda: b.op("GreaterOrEqual", self._network_step(), b.integers(step, f"step_{step}"), name=f"at_{step}"),
        )

    def counter(self) -> ir.Value:
        """Steps since the layer's start, int64, from 0."""
        step, b = self._network_step(), self.builder
        if self.start == 0:
            return step

        def shifted() -> ir.Value:
            since = b.op("Sub", step, b.integers(self.start, f"step_{self.start}"), name=f"since_{self.start}")
            return b.op("Max", since, b.integers(0, "first"), name=f"step_from_{self.start}")

        return b.once(f"step_from_{self.start}", shifted)

    def _network_step(self) -> ir.Value:
        assert self.step is not None, f"layer {self.name!r} reads a step counter that the machine does not declare"
        return self.step

    def previous_step(self) -> ir.Value:
        """The number of the step before this one, int64; -1 at first."""
        b = self.builder
        return b.once(
            f"previous_step_{self.start}",
            lambda: b.op("Sub", self.counter(), b.integers(1, "one"), name="previous_step"),
        )

    def steps_done(self) -> ir.Value:
        """Number of steps done, this one included, float32."""
        count = self.builder.op("Add", self.counter(), self.builder.integers(1, "one"), name=f"{self.name}.count")
        return self.builder.op("Cast", count, name=f"{self.name}.steps", to=int(ir.DataType.FLOAT))
