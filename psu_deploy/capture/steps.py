"""Values of single steps: what loops over time are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from psu_deploy.capture.axes import BATCH, SEQUENCE, TIME, Axes, whole
from psu_deploy.capture.values import ALWAYS, END, EVERY, UNKNOWN, Example, Value, When, shape_of
from psu_deploy.errors import Refusal


def common(values: Sequence[Value]) -> When:
    """Which steps the result of a layer tells of.

    Raises:
        Refusal: if the inputs tell of different ones.
    """
    found = list(dict.fromkeys(value.when for value in values if value.when != ALWAYS))
    if len(found) < 2:
        return found[0] if found else ALWAYS
    if END in found:
        raise Refusal(
            "joins what is known at every step with a reduction over all of them, which is known at the end",
            "use a running mean or sum (cumsum), or join after the reduction",
        )
    first, second = map(_said, found[:2])
    raise Refusal(
        f"joins {first} with {second}: a recurrence written by hand",
        "use one of the neurons, or a module with a converter",
    )


def _said(when: When) -> str:
    if isinstance(when, str):
        return when
    return f"step {when.start}" if len(when) == 1 else f"the sum of steps {when.start} to {when[-1]}"


def check_sizes(found: object, example: Example) -> None:
    """Raise `Refusal` if a tensor does not have the sizes that its axes say: time or batch became longer or shorter."""
    for value in found if isinstance(found, list | tuple) else [found]:
        known = isinstance(value, Value) and value.node != UNKNOWN and value.span == (0, 0)
        if isinstance(value, Value) and known and shape_of(value.axes, example) != tuple(value.tensor.shape):
            raise Refusal(f"makes {value.layout} longer or shorter in time or batch", "change the features only")


def single(value: Value) -> int | None:
    """The step a value is of, if it is of one."""
    return value.when.start if isinstance(value.when, range) and len(value.when) == 1 else None


def added(first: Value, second: Value) -> range | None:
    """Steps summed up by a loop that adds the next one; None if this is something else."""
    one, other = first.when, second.when
    if not isinstance(one, range) or not isinstance(other, range) or one.stop != other.start or len(other) != 1:
        return None
    return range(one.start, other.stop) if (first.node, first.axes) == (second.node, second.axes) else None


def axes_after(value: Value, result: Tensor) -> Axes:
    """Axes of what a layer makes of a value: time and batch stay where they are."""
    if result.ndim == len(value.axes):
        return tuple(
            axis if size == before and _mixed(axis) else (size,) if not _mixed(axis) else axis
            for axis, size, before in zip(value.axes, result.shape, value.tensor.shape, strict=True)
        )
    lead = [axis for axis in value.axes if _mixed(axis)]
    return (*lead, *whole(tuple(result.shape[len(lead) :])))


def _mixed(axis: tuple[object, ...]) -> bool:
    return not all(isinstance(atom, int) for atom in axis)


def guess(tensor: Tensor, values: Sequence[Value], example: Example) -> Value:
    """A value behind something that was refused: the axes it most likely has."""
    like = values[0]
    candidates: list[tuple[Axes, When]] = [
        (like.axes, like.when),
        ((*SEQUENCE, *whole(tuple(tensor.shape[2:]))), EVERY),
        (((TIME, BATCH), *whole(tuple(tensor.shape[1:]))), EVERY),
        (((BATCH,), *whole(tuple(tensor.shape[1:]))), END if like.when == EVERY else like.when),
    ]
    for axes, when in candidates:
        if shape_of(axes, example) == tuple(tensor.shape):
            return Value(tensor, UNKNOWN, axes, when)
    return Value(tensor, UNKNOWN, whole(tuple(tensor.shape)), like.when)
