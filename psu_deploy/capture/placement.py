"""Whether a layer stands where it can work: along time or beside it, on intact values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.layers import ANY_LAYOUT, STATELESS
from psu_deploy.capture.tracer import NEURONS
from psu_deploy.capture.values import Layout, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.schedule import INPUT


def check_place(module: nn.Module, values: Sequence[Value]) -> None:
    """A neuron needs the whole sequence; say so before it fails on anything else."""
    for value in values:
        spikingjelly.check_step_mode(module, value.layout)
    if isinstance(module, NEURONS) and any(value.layout is not Layout.SEQUENCE for value in values):
        raise _along_time(values[0].layout)


def check_along_time(layer: ops.Layer | None, layout: Layout) -> None:
    """Raise if a layer that works along time is applied to anything but a whole sequence."""
    if layer is not None and layer.along_time and layout is not Layout.SEQUENCE:
        raise _along_time(layout)


def check_lookahead(layer: ops.Layer | None, value: Value) -> None:
    """Behind the last step of a sequence only the network's input is known to be silent."""
    if layer is not None and layer.lookahead and value.node != INPUT:
        raise Refusal(
            f"looks {layer.lookahead} step(s) ahead at the result of another layer", "look ahead at the input only"
        )


def _along_time(layout: Layout) -> Refusal:
    return Refusal(f"works along time but is applied to {layout.value}", "pass it the whole (T, B, ...)")


def check_batched(module: nn.Module, layout: Layout) -> None:
    """A torch layer that treats axis 0 as the batch must not get T there."""
    batched = type_of(module) in STATELESS and type_of(module) not in ANY_LAYOUT
    if batched and layout is Layout.SEQUENCE:
        raise Refusal("is applied to (T, B, ...) and takes T for the batch", "wrap it in psu.Lift")


def check_intact(overwritten: bool) -> None:
    """A value that an operation in place has changed is no longer that of the node it stands for."""
    if overwritten:
        raise Refusal("reads a tensor that was changed in place", "use inplace=False, and y = y + x for y += x")
