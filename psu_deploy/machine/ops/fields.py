"""Checks shared by the dataclasses of the state machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError
from psu_deploy.numerics.checks import is_whole

Array = NDArray[np.float64]
Shape = tuple[int, ...]

LARGEST = 2**31 - 1
"""Of a stride, a kernel, a padding: engines count them in 32 bits."""

MAX_AXES = 32
"""Of features; numpy and torch count to 64, and layers put time, batch and memory in front."""

UNSAVED = {"saved": False}
"""Metadata of a dataclass field that says nothing about what is computed: no file and no content hash has it."""


def saved_fields(owner: Any) -> list[Field[Any]]:
    """Fields of a dataclass, or of an instance, that make it what it is."""
    return [field for field in fields(owner) if field.metadata.get("saved", True)]


def feature_shape(value: Any) -> Shape:
    """Features of one step as a tuple: no time, no batch.

    Raises:
        InputError: unless value is a whole number >= 1, or some of them.
    """
    sizes = tuple(value) if isinstance(value, Iterable) else (value,)
    if not sizes or not all(is_whole(n) and n >= 1 for n in sizes):
        raise InputError(
            f"input_shape must be the features of one step, such as (700,), without time and batch; got {value!r}"
        )
    if len(sizes) > MAX_AXES:
        raise InputError(f"input_shape must have at most {MAX_AXES} axes, got {len(sizes)}")
    return tuple(int(n) for n in sizes)


def freeze(owner: object, name: str, ndim: int | None, *, optional: bool = False) -> None:
    """Turn a field of a frozen dataclass into a read-only, finite float64 array of `ndim` axes; None = of any number.

    float64 holds every float32 and float16 parameter exactly, so nothing is lost before an exporter rounds.

    Raises:
        InputError: if the field has another number of axes or holds NaN or infinity.
    """
    value = getattr(owner, name)
    if value is None and optional:
        return
    array = np.array(value, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise InputError(f"{_label(owner, name)} must have {ndim} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{_label(owner, name)} holds NaN or infinity")
    array.setflags(write=False)
    object.__setattr__(owner, name, array)


def finite(owner: object, *names: str) -> None:
    """Turn scalar fields of a frozen dataclass into finite floats."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{_label(owner, name)} must be a finite number, got {value!r}")
        object.__setattr__(owner, name, float(value))


def whole_numbers(owner: object, name: str, minimum: int, length: int | None = None) -> None:
    """Turn a field of a frozen dataclass into a tuple of whole numbers."""
    value = getattr(owner, name)
    numbers = tuple(value) if isinstance(value, list | tuple) else None
    if numbers is None or not all(is_whole(n) and minimum <= n <= LARGEST for n in numbers):
        raise InputError(f"{_label(owner, name)} must be whole numbers in {minimum}..{LARGEST}, got {value!r}")
    if length is not None and len(numbers) != length:
        raise InputError(f"{_label(owner, name)} must have {length} entries, got {len(numbers)}")
    object.__setattr__(owner, name, numbers)


def pairs(owner: object, name: str, length: int | None = None) -> None:
    """Turn a field of a frozen dataclass into a tuple of (before, after) pairs of whole numbers >= 0."""
    value = getattr(owner, name)
    good = isinstance(value, list | tuple) and length in (None, len(value))
    if not good or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        count = "" if length is None else f"{length} "
        raise InputError(f"{_label(owner, name)} must be {count}pairs (before, after), got {value!r}")
    if not all(is_whole(n) and 0 <= n <= LARGEST for pair in value for n in pair):
        raise InputError(f"{_label(owner, name)} must hold whole numbers in 0..{LARGEST}, got {value!r}")
    object.__setattr__(owner, name, tuple(tuple(pair) for pair in value))


def sizes_of(owner: object, name: str) -> None:
    """Turn a field of a frozen dataclass into a tuple of sizes of feature axes."""
    whole_numbers(owner, name, 1)
    if len(getattr(owner, name)) > MAX_AXES:
        raise InputError(f"{_label(owner, name)} must have at most {MAX_AXES} axes, got {len(getattr(owner, name))}")


def axes_of(owner: object, name: str) -> None:
    """Turn a field of a frozen dataclass into a tuple of different feature axes, counted from 0."""
    whole_numbers(owner, name, 0)
    axes = getattr(owner, name)
    if len(set(axes)) != len(axes) or max(axes, default=0) >= MAX_AXES:
        raise InputError(f"{_label(owner, name)} must be different feature axes in 0..{MAX_AXES - 1}, got {axes}")


def axis_of(owner: object, name: str) -> None:
    """Check that a field of a frozen dataclass can be an axis of features, counted from 0."""
    value = getattr(owner, name)
    if not is_whole(value) or not 0 <= value < MAX_AXES:
        raise InputError(f"{_label(owner, name)} must be a feature axis in 0..{MAX_AXES - 1}, got {value!r}")


def check_axes(owner: object, features: Shape, *axes: int) -> None:
    """Raise `InputError` unless features have these axes."""
    if max(axes, default=-1) >= len(features):
        raise InputError(f"{type(owner).__name__} works over feature axis {max(axes)}, got features {features}")


def without(features: Shape, axes: Iterable[int], keepdims: bool) -> Shape:
    """Features once these axes have one entry, or are gone."""
    gone = set(axes)
    kept = [1 if index in gone else n for index, n in enumerate(features)]
    return tuple(n for index, n in enumerate(kept) if keepdims or index not in gone)


def kind_of(owner: object, name: str, kinds: Any) -> None:
    """Check that a field of a frozen dataclass is an instance of the given class or union."""
    if not isinstance(getattr(owner, name), kinds):
        raise InputError(f"{_label(owner, name)} must be {kinds}, got {getattr(owner, name)!r}")


def flag(owner: object, name: str) -> None:
    """Check that a field of a frozen dataclass is True or False."""
    if not isinstance(getattr(owner, name), bool):
        raise InputError(f"{_label(owner, name)} must be True or False, got {getattr(owner, name)!r}")


def one_of(owner: object, name: str, choices: tuple[str, ...]) -> None:
    """Check that a field of a frozen dataclass is one of the given words."""
    if getattr(owner, name) not in choices:
        raise InputError(f"{_label(owner, name)} must be one of {choices}, got {getattr(owner, name)!r}")


def texts(owner: object, name: str) -> None:
    """Turn a field of a frozen dataclass into a tuple of different words that a file could hold."""
    value = getattr(owner, name)
    words = tuple(value) if isinstance(value, list | tuple) else ()
    if not words or not all(isinstance(word, str) and is_text(word) for word in words) or len({*words}) < len(words):
        raise InputError(f"{_label(owner, name)} must be different words, each of them text, got {value!r}")
    object.__setattr__(owner, name, words)


def is_text(name: str) -> bool:
    """No lone surrogate, which is what Python makes of bytes that are none, and no zero, where names of C end."""
    return bool(name) and "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _label(owner: object, name: str) -> str:
    return f"{type(owner).__name__}.{name}"


def freeze_bias(layer: Any) -> None:
    """Turn the bias, None or one number per output of the weight, into a float64 array that cannot be written to."""
    freeze(layer, "bias", 1, optional=True)
    if layer.bias is not None and len(layer.bias) != layer.weight.shape[0]:
        raise InputError(
            f"{type(layer).__name__}: bias has {len(layer.bias)} entries for {layer.weight.shape[0]} outputs"
        )
