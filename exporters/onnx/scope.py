"""What a layer sees while it is lowered: its name, its state, the step counter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from psu_deploy.exporters.onnx.builder import Builder
from psu_deploy.machine.fields import Shape


@dataclass
class Scope:
    """One layer's view of the graph under construction.

    Args:
        builder: takes the nodes.
        name: of the layer; prefix of all its values.
        features: shape of its (first) input, per sample.
        current: role -> graph input that carries the layer's state.
        step: graph input with the number of steps done before this one; None if no layer needs it.
    """

    builder: Builder
    name: str
    features: Shape
    current: Mapping[str, ir.Value]
    step: ir.Value | None
    following: dict[str, ir.Value] = field(default_factory=dict)

    def state(self, role: str) -> ir.Value:
        """The state before this step."""
        return self.current[role]

    def set_state(self, role: str, value: ir.Value) -> None:
        """The state after this step."""
        self.following[role] = value

    def counter(self) -> ir.Value:
        """The step counter, int64, from 0."""
        assert self.step is not None, f"layer {self.name!r} reads a step counter that the machine does not declare"
        return self.step

    def previous_step(self) -> ir.Value:
        """The number of the step before this one, int64; -1 at first."""
        b = self.builder
        return b.once("previous_step", lambda: b.op("Sub", self.counter(), b.integers(1, "one"), name="previous_step"))

    def steps_done(self) -> ir.Value:
        """Number of steps done, this one included, float32."""
        count = self.builder.op("Add", self.counter(), self.builder.integers(1, "one"), name=f"{self.name}.count")
        return self.builder.op("Cast", count, name=f"{self.name}.steps", to=int(ir.DataType.FLOAT))
