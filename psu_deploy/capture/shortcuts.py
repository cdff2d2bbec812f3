"""What need not be computed in full: what a neuron of ours fires, and what a layer of torch's gives for more samples.

A neuron's spikes are drawn at random while a network is recorded, so of its own only whether it fails counts. In a
repeated example no numbers count, only which calls are made on which shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture.axes import leading
from psu_deploy.capture.calls import find_values
from psu_deploy.capture.layers import STATELESS
from psu_deploy.capture.patches import unseen
from psu_deploy.capture.values import Value
from psu_deploy.nn.neurons import Neuron

_KNOWN = ("torch.nn.modules.", "psu_deploy.")
"""Packages whose modules leave nothing of their input behind in eval mode."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "forward")
"""Attributes by which somebody else has a hand in what a module does."""

SOME_NEURONS = 16
"""Of a layer; the serial run of a learned T x T matrix costs T * T numbers per neuron."""


def compute(
    module: nn.Module, run: Callable[..., Any], call: Callable[..., Any], args: Any, kwargs: Any, *, repeated: bool
) -> Any:
    """What a module gives; of a neuron of ours the shape and the failures, of a repeated example the shape.

    Args:
        module: a layer or a neuron.
        run: runs a call on arguments with tensors of the network as `Value`.
        call: the module's forward.
        args: what it is given.
        kwargs: by name.
        repeated: whether the numbers of one sample stand for those of all.
    """
    if not is_known(module) or any(type(given.tensor) is not Tensor for given in find_values((args, kwargs))):
        return run(call, args, kwargs)
    value = args[0] if len(args) == 1 and not kwargs else None
    with unseen():
        if isinstance(value, Value) and isinstance(module, Neuron):
            return call(some_neurons(value.tensor)).new_zeros(()).expand(value.tensor.shape)
        if isinstance(value, Value) and repeated and _acts_on_samples(module, value):
            return _repeated(call, value)
        return run(call, args, kwargs)


def is_known(module: nn.Module) -> bool:
    """Whether all parts of a module are torch's or ours, as they were written, and so are its numbers."""
    if torch_modules._has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    parts = list(module.modules())
    numbers = [one for part in parts for one in (*part._parameters.values(), *part._buffers.values())]
    return all(map(_is_as_written, parts)) and all(type(one) in (Tensor, nn.Parameter, type(None)) for one in numbers)


def some_neurons(sequence: Tensor) -> Tensor:
    """(T, B, *features) -> (T, B, n): neurons of a layer share their numbers, so a few spread over it will do."""
    flat = sequence.reshape(*sequence.shape[:2], -1)
    return flat[..., :: -(-flat.shape[-1] // SOME_NEURONS)]


def expanded(sample: Tensor, value: Value) -> Tensor:
    """A sample at every step and place of the batch of a value, in the memory of one."""
    lead = len(leading(value.axes))
    return sample.expand(*value.tensor.shape[:lead], *sample.shape[lead:])


def first_sample(value: Value) -> Tensor:
    """That of the first step, with its axes of time and batch."""
    return value.tensor[(slice(1),) * len(leading(value.axes))]


def is_repeated(value: Value) -> bool:
    """Whether one sample stands for all."""
    lead = len(leading(value.axes))
    sizes = zip(value.tensor.shape[:lead], value.tensor.stride()[:lead], strict=True)
    return lead > 0 and all(size == 1 or stride == 0 for size, stride in sizes)


def _repeated(call: Callable[..., Any], value: Value) -> Tensor:
    return expanded(call(first_sample(value)), value)


def _acts_on_samples(module: nn.Module, value: Value) -> bool:
    return (
        type_of(module) in STATELESS and not getattr(module, "inplace", False) and (value.is_batch or value.is_sequence)
    )


def _is_as_written(part: nn.Module) -> bool:
    return type(part).__module__.startswith(_KNOWN) and not any(vars(part).get(name) for name in _HOOKS)
