"""Neurons whose membrane is read out instead of spikes: as what they give, or as an attribute they leave behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from psu_deploy.capture import placement, spikingjelly
from psu_deploy.capture.axes import SEQUENCE, TIME
from psu_deploy.capture.calls import Record
from psu_deploy.capture.conversion import Chain
from psu_deploy.capture.steps import single
from psu_deploy.capture.values import END, EVERY, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops

LEAVE_ALONE = frozenset(("detach", "detach_", "data"))
"""What trainers do to a neuron's memory between two steps; it stays what it is."""


class MembraneRecord(Record, Protocol):
    """What they see of the recording."""

    calls: dict[int, list[Value]]

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Know a tensor that the network may come across."""


def emit_membrane(
    record: MembraneRecord, module: nn.Module, name: str, chain: Chain, value: Value, result: Any
) -> tuple[Any, Any]:
    """Write down a membrane without a spike; what the module gives of it, and the tensors.

    Raises:
        Refusal: if it is not run over a whole sequence, or step by step in order.
    """
    layers = [one for one in chain if isinstance(one, ops.Layer)]
    placement.check_along_time(layers[0], value)
    before = record.calls.setdefault(id(module), [])
    before.append(value)
    if (single(value) or 0) != len(before) - 1:
        raise Refusal("goes on from the membrane of an earlier call", "use two neurons, or call it once at every step")
    if spikingjelly.never_fires(module):
        _leave_behind(record, module, name, layers, value)
        return None, result
    return _given(record, name, layers, value, result), result


def _leave_behind(record: MembraneRecord, module: Any, name: str, layers: list[ops.Layer], value: Value) -> None:
    """`node.v_seq` and `node.v` of a neuron that never fires; its spikes are a constant."""
    if value.when != EVERY:
        made = record.emit(name, layers, (value,), module.v, value.axes)
        record.keep(module.v, made)
        _keep_sequence(record, module, made)
        return
    made = record.emit(name, layers, (value,), module.v_seq, value.axes)
    record.keep(module.v_seq, made)
    last = record.emit(f"{name}.v", ops.Readout("last"), (made,), module.v, value.axes[1:], END)
    record.keep(module.v, last)


def _keep_sequence(record: MembraneRecord, module: Any, made: Value) -> None:
    """In single steps `v_seq` grows by one at each; whole is only the last."""
    if isinstance(module.v_seq, Tensor) and len(module.v_seq) == record.example.steps:
        record.keep(module.v_seq, Value(module.v_seq, made.node, ((TIME,), *made.axes), EVERY))


def _given(record: Record, name: str, layers: list[ops.Layer], value: Value, result: Any) -> Any:
    """The potentials that a module gives: at the end, or a list of those of every step."""
    if isinstance(result, Tensor):
        axes = SEQUENCE + value.axes[2:] if result.shape == value.tensor.shape else value.axes[1:]
        return record.emit(name, layers, (value,), result, axes, EVERY if axes == value.axes else END)
    made = record.emit(name, layers, (value,), torch.stack(result), value.axes)
    return [Value(one, made.node, value.axes[1:], range(t, t + 1)) for t, one in enumerate(result)]


def kept_by_who_fires(
    memories: spikingjelly.Memories, tensors: Iterable[Any], paths: Mapping[int, str]
) -> Refusal | None:
    """Why none of these may be what a neuron that fires keeps from step to step; None where none is.

    Args:
        memories: of the neurons.
        tensors: or anything else.
        paths: id of every module -> its path.
    """
    for owner in filter(None, map(memories.owner, tensors)):
        module, name = owner
        return Refusal(
            f"reads {name} of {paths.get(id(module), '')!r}, which fires: only spikes leave such a neuron",
            'read out a neuron of its own that never fires, v_threshold=float("inf"), or psu.Membrane',
        )
    return None
