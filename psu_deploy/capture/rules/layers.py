"""Functions that are a layer: the functional form of modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from psu_deploy.capture.axes import TIME, is_feature
from psu_deploy.capture.calls import Call
from psu_deploy.capture.layers import FUNCTIONS
from psu_deploy.capture.rules import over_time
from psu_deploy.capture.steps import axes_after
from psu_deploy.capture.values import Value
from psu_deploy.errors import InputError, Refusal
from psu_deploy.machine import ops

FUNCTION_RULES = {key if isinstance(key, str) else key.__name__: rule for key, rule in FUNCTIONS.items()}
"""Name -> rule."""

_BATCHED = ("conv", "avg_pool", "max_pool", "adaptive_", "lp_pool", "batch_norm", "instance_norm", "group_norm")
_RESIZING = ("interpolate", "upsample")
_TRAILING = {"linear": 1, "layer_norm": 1, "rms_norm": 1, "pad": 1}
"""Name -> axes at the end that must be features."""


def apply_function(call: Call, name: str = "") -> Any:
    """A layer, or several in a row, of the tensor that comes first.

    Args:
        call: what was called.
        name: of the function, where the call has another.
    """
    name = name or call.name
    value, *rest = call.args if call.args else (call.kwargs["input"],)
    if not isinstance(value, Value) or len(call.values) > 1:
        raise Refusal("takes several tensors of the network", "one of them must be the input, the others constants")
    if name == "pad" and TIME in value.axes[-1]:
        return _padded_over_time(call, value, *rest, **call.kwargs)
    if name == "conv1d" and over_time.is_along_time(value):
        conv = over_time.functional_conv(value, *rest, **call.kwargs)
        return over_time.convolved(call, value, conv, call.result)
    if value.span != (0, 0):
        raise Refusal("works on some of the steps of a sequence", "cut or fill it to all steps first")
    _check_place(name, value)
    kwargs = {name: one for name, one in call.kwargs.items() if one is not value}
    try:
        layers = FUNCTION_RULES[name](value, *rest, **kwargs)
    except InputError as error:
        raise Refusal(str(error), "give it finite numbers and sizes it supports") from error
    result = call.result if isinstance(call.result, Tensor) else call.result[0]
    if layers is None:
        return call.same(value)
    chain = (layers,) if isinstance(layers, ops.Layer) else layers
    return call.emit(chain, (value,), axes_after(value, result), result=result)


def _padded_over_time(call: Call, value: Value, pad: Any, mode: str = "constant", fill: Any = None, **_: Any) -> Value:
    if mode != "constant" or fill not in (None, 0) or any(pad[2:]):
        raise Refusal("fills a sequence with anything but silence", "pad with zeros, over time alone")
    return over_time.padded(call, value, pad[0], pad[1], call.result)


def _check_place(name: str, value: Value) -> None:
    if name.startswith(_BATCHED + _RESIZING) and not value.is_batch:
        raise Refusal(f"is applied to {value.layout} and takes its first axis for the batch", "wrap it in psu.Lift")
    count = _TRAILING.get(name, 0)
    if count and not all(is_feature(axis) for axis in value.axes[-count:]):
        raise Refusal(f"works over the last axis of {value.layout}", "use it over features")
