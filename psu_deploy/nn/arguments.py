"""Checks of constructor arguments that many classes share: the kind first, its range is the class's own business."""

from __future__ import annotations

from numbers import Integral, Real

from psu_deploy.errors import InputError


def check_whole(name: str, value: object) -> None:
    """Raise `InputError` unless a value is a whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} must be a whole number, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise `InputError` unless a value is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r}")
