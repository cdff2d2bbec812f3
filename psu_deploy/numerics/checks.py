"""Checks of numbers that everybody shares: the kind first, its range is the asker's own business."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard

from psu_deploy.errors import InputError


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, Python's or numpy's; True is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(name: str, value: object) -> None:
    """Raise `InputError` unless a value is a whole number."""
    if not is_whole(value):
        raise InputError(f"{name} must be a whole number, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise `InputError` unless a value is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r}")
