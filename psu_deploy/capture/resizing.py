"""What resamples, pads and rearranges features in torch -> layers of the state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.capture.conversion import Converter, FunctionRule, Layers, array
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

_EDGES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Padding mode of torch -> of numpy."""


def edges(padding: Sequence[tuple[int, int]], features: Shape, mode: str) -> tuple[ops.Take, ...]:
    """Padding with what is there: along every axis that is padded the entries that torch repeats.

    Args:
        padding: (before, after) for every feature axis.
        features: what is padded.
        mode: "reflect", "replicate" or "circular".
    """
    if mode not in _EDGES:
        raise Refusal(f"padding mode {mode!r}", f"use zeros or one of {', '.join(_EDGES)}")
    if any(n < 0 for pair in padding for n in pair):
        raise Refusal(f"{mode} padding by a negative number", "slice the edge off instead")
    entries = (np.pad(np.arange(n), pair, mode=_EDGES[mode]) for n, pair in zip(features, padding, strict=True))  # type: ignore[call-overload]
    taken = (ops.Take(axis, tuple(indices.tolist())) for axis, indices in enumerate(entries))
    return tuple(take for take, pair in zip(taken, padding, strict=True) if any(pair))


def pad(x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Layers:
    """F.pad -> ConstantPad, what a negative number cuts off before it as Take; or what `edges` says."""
    return _padded(x.features, pad, mode, value)


def _padded(features: Shape, pad: Sequence[int], mode: str, value: float | None) -> Layers:
    given = [(int(before), int(after)) for before, after in zip(pad[::2], pad[1::2], strict=True)][::-1]
    missing = len(features) - len(given)
    if any(map(any, given[: max(0, -missing)])):
        raise Refusal("pads time or batch", "pad axes of the features")
    padding = [*[(0, 0)] * missing, *given[max(0, -missing) :]]
    if not any(map(any, padding)):
        return None
    if mode != "constant":
        return edges(padding, features, mode)
    cut = [range(max(0, -before), n - max(0, -after)) for n, (before, after) in zip(features, padding, strict=True)]
    taken = [ops.Take(axis, tuple(kept)) for axis, kept in enumerate(cut) if len(kept) != features[axis]]
    around = tuple((max(0, before), max(0, after)) for before, after in padding)
    return (*taken, *([ops.ConstantPad(around, float(value or 0.0))] if any(map(any, around)) else []))


def _pad_module(mode: str) -> Converter:
    def converter(module: Any, features: Shape) -> Layers:
        return _padded(features, module.padding, mode, getattr(module, "value", None))

    return converter


def interpolate(
    x: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Layers:
    """F.interpolate -> Take per axis for the nearest entries, else a matrix per axis."""
    x.axis(1)  # the channels of torch
    options = {"align_corners": align_corners, "antialias": antialias}
    return _resampled(x.features, size, scale_factor, mode, recompute_scale_factor, options)


def upsample(module: nn.Upsample, features: Shape) -> Layers:
    """nn.Upsample -> as `interpolate`."""
    options = {"align_corners": module.align_corners, "antialias": False}
    return _resampled(features, module.size, module.scale_factor, module.mode, module.recompute_scale_factor, options)


def _resampled(
    features: Shape, size: Any, scale: Any, mode: str, recompute: bool | None, options: dict[str, Any]
) -> Layers:
    if len(features) < 2:
        raise Refusal(f"resamples what is behind the channels, got features {features}", "reshape before it")
    axes = len(features) - 1
    sizes, scales = (value if isinstance(value, tuple | list) else (value,) * axes for value in (size, scale))
    layers: list[ops.Layer] = []
    for axis, n in enumerate(features[1:], 1):
        own = {"size": sizes[axis - 1]} if size is not None else {"scale_factor": scales[axis - 1]}
        if size is None:
            own["recompute_scale_factor"] = recompute
        found = _along_axis(n, mode, options, own)
        if found.shape != (n, n) or not bool((found == torch.eye(n)).all()):
            layers.append(_nearest(found, axis) if mode.startswith("nearest") else ops.Project(array(found), axis))
    return tuple(layers) or None


def _nearest(matrix: Tensor, axis: int) -> ops.Take:
    return ops.Take(axis, tuple(matrix.argmax(1).tolist()))


def _along_axis(n: int, mode: str, options: dict[str, Any], own: dict[str, Any]) -> Tensor:
    """(new size, n): what torch makes of each unit vector, with the weights that it rounds to float32 as it does."""
    unit = torch.eye(n, dtype=torch.float32)
    if mode in ("nearest", "nearest-exact", "area"):
        return F.interpolate(unit[None], mode=mode, **own)[0].T
    if mode != "bicubic" and not options["antialias"]:
        return F.interpolate(unit[None], mode="linear", align_corners=options["align_corners"], **own)[0].T
    # Torch has these over two axes only; along an axis of one entry they change nothing.
    flat: dict[str, Any] = {
        name: (1, value) if name in ("size", "scale_factor") else value for name, value in own.items()
    }
    return F.interpolate(unit[None, :, None], mode=mode, **options, **flat)[0, :, 0].T


def pixel_shuffle(x: Value, upscale_factor: int) -> Layers:
    """F.pixel_shuffle: (C r r, H, W) -> (C, H r, W r)."""
    return _shuffled(x.features, upscale_factor)


def pixel_unshuffle(x: Value, downscale_factor: int) -> Layers:
    """F.pixel_unshuffle: (C, H r, W r) -> (C r r, H, W)."""
    return _unshuffled(x.features, downscale_factor)


def _shuffled(features: Shape, r: int) -> Layers:
    channels, height, width = _image(features)
    parts, whole = (channels // r**2, r, r, height, width), (channels // r**2, height * r, width * r)
    return ops.Reshape(parts), ops.Permute((0, 3, 1, 4, 2)), ops.Reshape(whole)


def _unshuffled(features: Shape, r: int) -> Layers:
    channels, height, width = _image(features)
    parts, whole = (channels, height // r, r, width // r, r), (channels * r**2, height // r, width // r)
    return ops.Reshape(parts), ops.Permute((0, 2, 4, 1, 3)), ops.Reshape(whole)


def _image(features: Shape) -> tuple[int, int, int]:
    if len(features) != 3:
        raise Refusal(f"needs features (C, H, W), got {features}", "reshape before it")
    return features[0], features[1], features[2]


def channel_shuffle(module: nn.ChannelShuffle, features: Shape) -> Layers:
    """nn.ChannelShuffle: channel j of group i becomes channel i of group j."""
    indices = np.arange(features[0]).reshape(module.groups, -1).T.ravel()
    return ops.Take(0, tuple(indices.tolist()))


def flip(x: Value, *given: Any, dims: Any = ()) -> Layers:
    """torch.flip -> Take backwards."""
    axes = [x.axis(dim) for dim in _numbers(*given) or _numbers(dims)]
    return tuple(ops.Take(axis, tuple(range(x.features[axis]))[::-1]) for axis in axes)


def roll(x: Value, shifts: Any, dims: Any = None) -> Layers:
    """torch.roll -> Take, the end first."""
    if dims is None or dims == ():
        raise Refusal("rolls over all axes at once", "say dims=")
    layers = []
    for shift, dim in zip(_numbers(shifts), _numbers(dims), strict=True):
        axis = x.axis(dim)
        layers.append(ops.Take(axis, tuple(np.roll(np.arange(x.features[axis]), shift).tolist())))
    return tuple(layers)


def repeat_interleave(x: Value, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Layers:
    """torch.repeat_interleave -> Take, every entry several times."""
    if dim is None or not isinstance(repeats, int):
        raise Refusal("repeats over all axes at once, or each entry its own number of times", "say dim= and a number")
    axis = x.axis(dim)
    return ops.Take(axis, tuple(np.repeat(np.arange(x.features[axis]), repeats).tolist()))


def _numbers(*values: Any) -> tuple[int, ...]:
    """Of one number, some of them, or a tuple of them."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple | list) else values


MODULES: dict[type[nn.Module], Converter] = {
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), upsample),
    nn.PixelShuffle: lambda module, features: _shuffled(features, module.upscale_factor),
    nn.PixelUnshuffle: lambda module, features: _unshuffled(features, module.downscale_factor),
    nn.ChannelShuffle: channel_shuffle,
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d), _pad_module("constant")),
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), _pad_module("constant")),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), _pad_module("reflect")),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), _pad_module("replicate")),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d), _pad_module("circular")),
}
"""Type -> converter."""

FUNCTIONS: dict[Callable[..., Any] | str, FunctionRule] = {
    F.pad: pad,
    F.interpolate: interpolate,
    **dict.fromkeys((F.pixel_shuffle, torch.pixel_shuffle), pixel_shuffle),
    **dict.fromkeys((F.pixel_unshuffle, torch.pixel_unshuffle), pixel_unshuffle),
    **dict.fromkeys((torch.flip, "flip"), flip),
    **dict.fromkeys((torch.roll, "roll"), roll),
    **dict.fromkeys((torch.repeat_interleave, "repeat_interleave"), repeat_interleave),
}
"""Function, or name of a method -> rule."""

ANY_LAYOUT = (
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    *(nn.PixelShuffle, nn.PixelUnshuffle),
)
"""Modules that act on the last axes, whatever stands in front."""
