"""Rules of sums, means, maxima: over time they are the readout, over features a layer, over samples refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from psu_deploy.capture.axes import BATCH, TIME, Axes, is_feature, reduced
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.rules import over_time as over_time_rules
from psu_deploy.capture.rules.ranking import place_of_best, unread_place
from psu_deploy.capture.steps import added
from psu_deploy.capture.values import END, EVERY, OtherStepsError, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops

_ADDS = ("add", "__add__", "__radd__", "__iadd__")

_KINDS = {"mean": "mean", "sum": "sum", "amax": "max", "max": "max", "amin": "min", "min": "min"}


@rule("mean", "sum", "amax", "amin")
def reduce(call: Call, value: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Value:
    """x.mean(dim), over one axis or several."""
    dim = kwargs.pop("axis", dim)
    keepdim = kwargs.pop("keepdims", keepdim)
    if kwargs.get("dtype") not in (None, value.tensor.dtype):
        raise Refusal("changes the type of its numbers", "leave dtype= away")
    return _reduced(call, value, _KINDS[call.name], dim, keepdim)


@rule("max", "min")
def best(call: Call, value: Value, *args: Any, **kwargs: Any) -> Any:
    """x.max(dim): values, and their places. Of two tensors: the larger, entry by entry."""
    if any(isinstance(one, Value) for one in (*args, *kwargs.values())):
        raise Refusal("compares two tensors", "use relu, or a pool")
    dim, keepdim = _dims(*args, **kwargs)
    found = _reduced(call, value, _KINDS[call.name], dim, keepdim)
    return found if isinstance(call.result, Tensor) else [found, place_of_best(call, value, dim, keepdim)]


def _dims(dim: Any = None, keepdim: bool = False, axis: Any = None) -> tuple[Any, bool]:
    return (axis if dim is None else dim), keepdim


@rule("cumsum", "cummax", "cummin")
def running(call: Call, value: Value, dim: int) -> Any:
    """What is known so far, at every step."""
    if value.axes[value.index(dim)] != (TIME,):
        raise Refusal(f"runs along axis {dim} of {value.layout}", "over time only")
    kind = {"cumsum": "sum", "cummax": "max", "cummin": "min"}[call.name]
    result = call.result if isinstance(call.result, Tensor) else call.result[0]
    found = call.emit(ops.Readout(kind), (value,), value.axes, EVERY, result)
    return found if isinstance(call.result, Tensor) else [found, unread_place(call, value)]


def _reduced(call: Call, value: Value, kind: str, dim: Any, keepdim: bool) -> Value:
    every = range(len(value.axes)) if dim is None or dim == () or dim == [] else dim
    dims = sorted({value.index(one) for one in (every if isinstance(every, Sequence | range) else [every])})
    over_features = [one for one in dims if is_feature(value.axes[one])]
    over_time = [one for one in dims if value.axes[one] == (TIME,)]
    if len(over_features) + len(over_time) != len(dims):
        said = "samples" if any(BATCH in value.axes[one] for one in dims) else "time and features at once"
        raise Refusal(f"reduces axes {dims} of {value.layout}, over {said}", f"use x.{kind}(0) over time, or features")
    result = call.result if isinstance(call.result, Tensor) else call.result[0]
    if value.span != (0, 0):
        if over_features or not over_time:
            raise Refusal("works on some of the steps of a sequence", "reduce over time alone")
        return over_time_rules.mean_of_last(call, value, kind, over_time[0], keepdim, result)
    if over_features:
        layer = ops.Reduce(kind, tuple(value.axis(one) for one in over_features), bool(keepdim or over_time))
        if not over_time:
            return call.emit(layer, (value,), reduced(value.axes, over_features, keepdim), result=result)
        value = _over_features(call, value, layer, over_features, kind)
    return _over_time(call, value, kind, over_time[0], result, keepdim, over_features)


def _over_features(call: Call, value: Value, layer: ops.Layer, dims: list[int], kind: str) -> Value:
    tensor = getattr(value.tensor, {"max": "amax", "min": "amin"}.get(kind, kind))(dims, keepdim=True)
    return call.emit(layer, (value,), reduced(value.axes, dims, True), result=tensor)


def _over_time(
    call: Call, value: Value, kind: str, time: int, result: Tensor, keepdim: bool, dropped: list[int]
) -> Value:
    axes: Axes = (*value.axes[:time], *([(1,)] if keepdim else []), *value.axes[time + 1 :])
    layers: list[ops.Layer] = [ops.Readout(kind)]
    if dropped and not keepdim:
        axes = tuple(axis for index, axis in enumerate(value.axes) if index not in (*dropped, time))
    features = tuple(atom for axis in axes for atom in axis if isinstance(atom, int))
    if features != value.features:
        layers.append(ops.Reshape(features) if features else _no_features())
    return call.emit(layers, (value,), axes, END, result)


def _no_features() -> ops.Layer:
    raise Refusal("leaves no features", "keep at least one")


def with_whole_sums(call: Call) -> Call:
    """The call with every sum that a loop has taken over all steps as what it is: the readout.

    Raises:
        Refusal: if it reads a sum of some of the steps, other than to add the next.
    """
    if _goes_on(call):
        return call
    changed = {id(value): _whole(call, value) for value in call.values if _partial(value)}
    if not changed:
        return call
    from torch.utils._pytree import tree_map

    def swapped(leaf: Any) -> Any:
        return changed.get(id(leaf), leaf)

    return Call(call.name, tree_map(swapped, call.args), tree_map(swapped, dict(call.kwargs)), call.result, call.record)


def _partial(value: Value) -> bool:
    return isinstance(value.when, range) and len(value.when) > 1


def _goes_on(call: Call) -> bool:
    """Whether the sum of some steps meets the next."""
    tensors = call.name in _ADDS and all(isinstance(one, Value) for one in call.args)
    return tensors and len(call.args) == 2 and added(*call.args) is not None


def _whole(call: Call, value: Value) -> Value:
    assert isinstance(value.when, range)
    if value.when == range(call.example.steps):
        return complete(call.record, value)
    if call.name in _ADDS:
        return value
    if call.example.image:  # a picture, shown as often as the network says
        raise OtherStepsError(len(value.when))
    raise Refusal("reads a sum of some of the steps", "read it once all steps are added")


def complete(record: Any, value: Value) -> Value:
    """A loop's sum over all steps."""
    found: Value = record.emit("sum()", ops.Readout("sum"), (value,), value.tensor, value.axes, END)
    return found
