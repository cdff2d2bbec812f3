"""Checks of the values of a recipe: what is wrong, and what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from psu_deploy.errors import InputError

_LARGEST_NUMBER = 1e9
"""Of rates, in size."""


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise `InputError` unless a value is one of the words."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {short(value)}")


def check_whole(name: str, value: Any, minimum: int, maximum: int) -> None:
    """Raise `InputError` unless a value is a whole number in minimum..maximum."""
    if type(value) is not int or value < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, got {short(value)}")
    if value > maximum:
        raise InputError(f"{name} must be at most {maximum}, got {short(value)}")


def check_number(name: str, value: Any, allowed: str, inside: Callable[[float], bool]) -> None:
    """Raise `InputError` unless a value is a number of a sensible size for which `inside` holds."""
    if type(value) not in (int, float) or not inside(value) or abs(value) == math.inf:
        raise InputError(f"{name} must be a number {allowed}, got {short(value)}")
    if not abs(value) < _LARGEST_NUMBER:
        raise InputError(f"{name} must be below {_LARGEST_NUMBER:g}, got {short(value)}")


def check_flag(name: str, value: Any) -> None:
    """Raise `InputError` unless a value is true or false."""
    if type(value) is not bool:
        raise InputError(f"{name} must be true or false, got {short(value)}")


def check_options(name: str, value: Any) -> None:
    """Raise `InputError` unless a value maps words to plain values."""
    plain = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if not plain or not all(type(v) in (bool, int, float, str) for v in value.values()):
        raise InputError(f"{name} must map names to numbers, words, true or false, got {short(value)}")


def short(value: Any) -> str:
    """A value for a message; one of a file may be longer than any."""
    return repr(value)[:80]
