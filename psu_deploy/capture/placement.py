"""Whether a layer stands where it can work: along time or beside it, on intact values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.axes import is_feature
from psu_deploy.capture.layers import ANY_LAYOUT, STATELESS
from psu_deploy.capture.leaves import NEURONS
from psu_deploy.capture.rules import over_time
from psu_deploy.capture.steps import single
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.schedule import INPUT


def check_place(module: nn.Module, values: Sequence[Value]) -> None:
    """A neuron needs the whole sequence; say so before it fails on anything else."""
    for value in values:
        spikingjelly.check_step_mode(module, value)
        if value.span != (0, 0) and not over_time.is_along_time(value):
            raise Refusal("works on some of the steps of a sequence", "cut or fill it to all steps first")
        if isinstance(module, NEURONS) and not value.is_sequence:
            raise _along_time(value)


def check_along_time(layer: ops.Layer, value: Value) -> None:
    """Raise if a layer that works along time is applied to anything but a whole sequence, or its steps one by one."""
    if layer.along_time and not value.is_sequence and not (single(value) is not None and value.is_batch):
        raise _along_time(value)


def check_lookahead(layer: ops.Layer, value: Value) -> None:
    """Behind the last step of a sequence only the network's input is known to be silent."""
    if layer.lookahead and value.node != INPUT:
        raise Refusal(
            f"looks {layer.lookahead} step(s) ahead at the result of another layer", "look ahead at the input only"
        )


def _along_time(value: Value) -> Refusal:
    return Refusal(f"works along time but is applied to {value.layout}", "pass it the whole (T, B, ...)")


def check_batched(module: nn.Module, value: Value) -> None:
    """A torch layer that treats axis 0 as the batch must not get T there, nor one over the last axis time."""
    kind = type_of(module)
    if kind in ANY_LAYOUT:
        if kind is nn.Linear and not is_feature(value.axes[-1]):
            raise Refusal(f"works over the last axis of {value.layout}", "use it over features")
        return
    if kind in STATELESS and value.is_sequence:
        raise Refusal("is applied to (T, B, ...) and takes T for the batch", "wrap it in psu.Lift")
    if kind is nn.BatchNorm1d and over_time.is_along_time(value):
        return  # it counts steps as places of a feature: every one is treated alike
    if kind in STATELESS and not value.is_batch:
        raise Refusal(f"is applied to {value.layout}", "give it (B, ...) or (T*B, ...)")


def check_intact(overwritten: bool) -> None:
    """A value that an operation in place has changed is no longer that of the node it stands for."""
    if overwritten:
        raise Refusal("reads a tensor that was changed in place", "use inplace=False, and y = y + x for y += x")
