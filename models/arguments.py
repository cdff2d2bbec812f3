"""Checks that the constructors of the networks share."""

from __future__ import annotations

from psu_deploy.errors import InputError
from psu_deploy.numerics.checks import check_number, check_whole


def check_sizes(**sizes: int) -> None:
    """Raise `InputError` unless every argument is a whole number of at least 1."""
    for name, size in sizes.items():
        check_whole(name, size)
        if size < 1:
            raise InputError(f"{name} must be at least 1, got {size}")


def check_multiple(name: str, size: int, of: int) -> None:
    """Raise `InputError` unless a size can be halved as often as the network pools."""
    check_sizes(**{name: size})
    if size % of:
        raise InputError(f"{name} must be a multiple of {of}, because the network pools; got {size}")


def check_dropout(dropout: float) -> None:
    """Raise `InputError` unless 0 <= dropout < 1."""
    check_number("dropout", dropout)
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout is a probability and must be at least 0 and below 1, got {dropout}")
