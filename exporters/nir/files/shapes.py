"""Shapes along a NIR graph: features of one step, no time, no batch."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.nir.files.nodes import KINDS, kind_name, numbers
from psu_deploy.exporters.nir.files.structure import Flat
from psu_deploy.machine.ops.fields import Shape


class MisfitError(Exception):
    """What a node gets does not fit it; the message says what was expected."""


def infer_shapes(flat: Flat, source: str = "the NIR graph") -> dict[str, tuple[Shape, Shape]]:
    """Name of every node -> features in and out. Every node is visited once, whatever cycles there are.

    Raises:
        ArtifactError: if an edge does not fit.
    """
    readers = flat.readers()
    first = _features(flat.nodes[flat.input], source, flat.input)
    shapes: dict[str, tuple[Shape, Shape]] = {}
    waiting = [(flat.input, first)]
    while waiting:
        name, features = waiting.pop()
        if name in shapes:
            continue
        shapes[name] = features, _result(flat.nodes[name], features, f"{source}: node {name!r}")
        waiting += [(reader, shapes[name][1]) for reader in readers[name]]
    for a, b in flat.edges:
        if shapes[a][1] != shapes[b][0]:
            raise ArtifactError(f"{source}: edge {(a, b)} brings shape {shapes[a][1]}, others bring {shapes[b][0]}")
    return shapes


def numbers_per_sample(flat: Flat, shapes: dict[str, tuple[Shape, Shape]]) -> int:
    """How many numbers one sample has on its way through a graph, the zeros around it included."""
    return sum(
        prod(before) + prod(after) + _padded(flat.nodes[name], before) for name, (before, after) in shapes.items()
    )


def _padded(node: Any, features: Shape) -> int:
    if kind_name(node) in ("Conv1d", "Conv2d"):
        kernel = numbers(node, "weight").shape[2:]
        stride, dilation = (whole(getattr(node, name), name, 1, len(kernel)) for name in ("stride", "dilation"))
        padding = padding_of(node, kernel, dilation, stride)
    elif kind_name(node) in ("SumPool2d", "AvgPool2d"):
        padding = tuple((p, p) for p in whole(node.padding, "padding", 0, 2))
    else:
        return 0
    return features[0] * prod(n + sum(p) for n, p in zip(features[1:], padding, strict=True))


def _features(node: Any, source: str, name: str) -> Shape:
    try:
        shape = whole(node.output_type["output"], "shape", 1)
    except (MisfitError, TypeError, KeyError) as error:
        raise ArtifactError(f"{source}: node {name!r} ({kind_name(node)}) has no shape: {error}") from error
    if not shape:
        raise ArtifactError(f"{source}: node {name!r} ({kind_name(node)}) has no features; expected at least one axis")
    return shape


def _result(node: Any, features: Shape, where: str) -> Shape:
    kind = kind_name(node)
    try:
        return _RULES.get(kind, _elementwise)(node, features)
    except MisfitError as misfit:
        raise ArtifactError(f"{where} ({kind}) gets features of shape {features}: {misfit}") from misfit


def whole(value: Any, name: str, minimum: int, length: int | None = None) -> Shape:
    """Whole numbers as a tuple; one number stands for all axes.

    Raises:
        MisfitError: unless they are whole numbers >= minimum, `length` of them.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.ndim > 1 or not np.equal(array, np.floor(array)).all():
        raise MisfitError(f"{name} must be whole numbers, got {value!r}")
    if not (array >= minimum).all() or not (array < 2**31).all():
        raise MisfitError(f"{name} must be at least {minimum} everywhere, got {value!r}")
    if length is not None:
        if array.ndim == 1 and len(array) not in (1, length):
            raise MisfitError(f"{name} must have {length} entries, got {len(array)}")
        array = np.broadcast_to(array, (length,))
    return tuple(int(n) for n in array.reshape(-1))


def padding_of(node: Any, kernel: Shape, dilation: Shape, stride: Shape) -> tuple[tuple[int, int], ...]:
    """Zeros before and after every axis of a convolution; `"same"` puts the odd one behind, as torch does."""
    padding = node.padding
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise MisfitError(f"padding must be whole numbers, 'same' or 'valid', got {padding!r}")
    if isinstance(padding, str) and padding == "valid":
        return ((0, 0),) * len(kernel)
    if isinstance(padding, str):
        if any(s != 1 for s in stride):
            raise MisfitError(f"padding 'same' has a meaning for stride 1 only, got stride {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in whole(padding, "padding", 0, len(kernel)))


def flattened_axes(node: Any, features: Shape) -> tuple[int, int]:
    """First and last axis that a Flatten joins, counted from the first feature axis."""
    axes = len(features)
    ends = [whole(getattr(node, name), name, -axes)[0] for name in ("start_dim", "end_dim")]
    start, end = (n + axes if n < 0 else n for n in ends)
    if not start <= end < axes:
        raise MisfitError(f"start_dim={ends[0]} and end_dim={ends[1]} are no axes of it")
    return start, end


def _same(node: Any, features: Shape) -> Shape:
    """An Input or Output hands on what it gets."""
    declared = node.output_type["output"]
    if declared is not None and whole(declared, "shape", 1) != features:
        raise MisfitError(f"its own shape is {whole(declared, 'shape', 1)}; they must be equal (no time, no batch)")
    return features


def _elementwise(node: Any, features: Shape) -> Shape:
    """Every parameter has a number per feature, or one for all (0-d)."""
    kind = KINDS[kind_name(node)]
    for name in (*kind.numbers, *kind.optional):
        shape = () if getattr(node, name, None) is None else numbers(node, name).shape
        if shape not in ((), features):
            raise MisfitError(f"its parameter {name} has shape {shape}; expected {features}, or a single number")
    return features


def _linear(node: Any, features: Shape) -> Shape:
    weight = numbers(node, "weight").shape
    if len(weight) < 2 or features != (*weight[:-2], weight[-1]):
        raise MisfitError(f"its weight has shape {weight}, (..., out, in); expected features (..., in)")
    result = (*weight[:-2], weight[-2])
    bias = numbers(node, "bias").shape if hasattr(node, "bias") else ()
    if bias not in ((), result):
        raise MisfitError(f"its bias has shape {bias}; expected {result}")
    return result


def _conv(node: Any, features: Shape) -> Shape:
    axes = 1 if kind_name(node) == "Conv1d" else 2
    weight = numbers(node, "weight").shape
    (groups,) = whole(node.groups, "groups", 1, 1)
    if len(weight) != axes + 2 or len(features) != axes + 1 or features[0] != weight[1] * groups or weight[0] % groups:
        raise MisfitError(
            f"its weight has shape {weight}, (out, in/groups, kernel) with groups={groups}; expected (in, space)"
        )
    if node.bias is not None and numbers(node, "bias").shape != weight[:1]:
        raise MisfitError(f"its bias has shape {numbers(node, 'bias').shape}; expected {weight[:1]}")
    if node.input_shape is not None and whole(node.input_shape, "input_shape", 1, axes) != features[1:]:
        raise MisfitError(
            f"its input_shape is {whole(node.input_shape, 'input_shape', 1, axes)}, expected {features[1:]}"
        )
    stride, dilation = (whole(getattr(node, name), name, 1, axes) for name in ("stride", "dilation"))
    padding = padding_of(node, weight[2:], dilation, stride)
    return (weight[0], *_slide(features[1:], weight[2:], stride, padding, dilation))


def _pool(node: Any, features: Shape) -> Shape:
    if len(features) != 3:
        raise MisfitError("expected (channels, height, width)")
    kernel, stride = (whole(getattr(node, name), name, 1, 2) for name in ("kernel_size", "stride"))
    padding = tuple((p, p) for p in whole(node.padding, "padding", 0, 2))
    return (features[0], *_slide(features[1:], kernel, stride, padding, (1, 1)))


def _flatten(node: Any, features: Shape) -> Shape:
    declared = node.input_type["input"]
    if declared is not None and whole(declared, "input_type", 1) != features:
        raise MisfitError(
            f"its input_type is {whole(declared, 'input_type', 1)}; they must be equal (no time, no batch)"
        )
    start, end = flattened_axes(node, features)
    return (*features[:start], prod(features[start : end + 1]), *features[end + 1 :])


def _slide(size: Shape, kernel: Shape, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape) -> Shape:
    spans = [n + sum(p) - d * (k - 1) - 1 for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)]
    if min(spans) < 0:
        raise MisfitError(f"a window of {kernel} does not fit an input of {size} padded by {padding}")
    return tuple(span // s + 1 for span, s in zip(spans, stride, strict=True))


_RULES: dict[str, Callable[[Any, Shape], Shape]] = {
    "Input": _same,
    "Output": _same,
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
}
