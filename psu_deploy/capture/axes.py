"""Which axis of a tensor is time, which the batch, which features: the bookkeeping of reshapes and permutations.

An axis is a tuple of *atoms*, slowest first: TIME, BATCH, or the size of a feature axis. (T*B, C) is
`((TIME, BATCH), (C,))`; heads folded into the batch, (B*h, N, d), are `((BATCH, h), (N,), (d,))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from psu_deploy.machine.ops.fields import Shape

TIME, BATCH = "T", "B"

Atom = str | int
Axis = tuple[Atom, ...]
Axes = tuple[Axis, ...]

SEQUENCE: Axes = ((TIME,), (BATCH,))
FOLDED: Axes = ((TIME, BATCH),)
STEP: Axes = ((BATCH,),)


@dataclass(frozen=True)
class Sizes:
    """How long time and batch are in an example."""

    steps: int
    batch: int

    def of(self, atom: Atom) -> int:
        """Size of an atom."""
        return atom if isinstance(atom, int) else self.steps if atom == TIME else self.batch


def features_of(axes: Axes) -> Shape:
    """Sizes of the features, in order."""
    return tuple(atom for axis in axes for atom in axis if isinstance(atom, int))


def reduced(axes: Axes, dims: Sequence[int], keepdim: bool) -> Axes:
    """Axes once some have one entry, or are gone."""
    if keepdim:
        return tuple((1,) if index in dims else axis for index, axis in enumerate(axes))
    return tuple(axis for index, axis in enumerate(axes) if index not in dims)


def is_feature(axis: Axis) -> bool:
    """Whether an axis holds features and nothing else."""
    return all(isinstance(atom, int) for atom in axis)


def leading(axes: Axes) -> Axes:
    """The axes before the first that is features only."""
    first = next((i for i, axis in enumerate(axes) if is_feature(axis)), len(axes))
    return axes[:first]


def whole(features: Shape) -> Axes:
    """One axis per feature axis."""
    return tuple((size,) for size in features)


def merged(axes: Axes) -> Axes:
    """Neighbouring features within one axis are one feature axis."""
    return tuple(_merged_axis(axis) for axis in axes)


def _merged_axis(axis: Axis) -> Axis:
    atoms: list[Atom] = []
    for feature, group in groupby(axis, key=lambda atom: isinstance(atom, int)):
        if not feature:
            atoms.extend(group)
            continue
        size = 1
        for atom in group:
            assert isinstance(atom, int)
            size *= atom
        atoms.append(size)
    return tuple(atoms)


def reshaped(axes: Axes, shape: Sequence[int], sizes: Sizes) -> Axes | None:
    """Axes of the same numbers in the same order under another shape; None where time or batch would be cut up.

    Args:
        axes: before.
        shape: after.
        sizes: of time and batch.
    """
    atoms = list(_merged_axis(tuple(atom for axis in axes for atom in axis if atom != 1)))
    result: list[Axis] = []
    for size in shape:
        axis, atoms = _take(atoms, int(size), sizes)
        if axis is None:
            return None
        result.append(axis)
    return None if atoms else tuple(result)


def _take(atoms: list[Atom], size: int, sizes: Sizes) -> tuple[Axis | None, list[Atom]]:
    """The first atoms that make an axis of this size, and the others."""
    if size == 1:
        single = atoms[:1] if atoms and isinstance(atoms[0], str) and sizes.of(atoms[0]) == 1 else []
        return (tuple(single) or (1,)), atoms[len(single) :]
    taken: list[Atom] = []
    while size > 1:
        if not atoms:
            return None, atoms
        first, *rest = atoms
        own = sizes.of(first)
        if size % own == 0:
            taken.append(first)
            atoms, size = rest, size // own
        elif isinstance(first, int) and first % size == 0:
            taken.append(size)
            atoms, size = [first // size, *rest], 1
        else:
            return None, atoms
    return tuple(taken), atoms


def broadcast(operands: Sequence[Axes]) -> Axes | None:
    """Axes of what torch makes of operands of these axes, entry by entry; None where they do not fit."""
    width = max(map(len, operands))
    padded = [((1,),) * (width - len(axes)) + axes for axes in operands]
    result: list[Axis] = []
    for column in zip(*padded, strict=True):
        others = {axis for axis in column if axis != (1,)}
        if len(others) > 1:
            return None
        result.append(others.pop() if others else (1,))
    return tuple(result)


def stretched(axes: Axes, to: Axes) -> Shape:
    """Features of an operand with a 1 for every feature axis of the result that it has not."""
    padded = ((1,),) * (len(to) - len(axes)) + axes
    return tuple(
        1 if own == (1,) else atom
        for own, axis in zip(padded, to, strict=True)
        for atom in axis
        if isinstance(atom, int)
    )
