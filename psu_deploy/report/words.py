"""Runs, places and numbers as sentences name them."""

from __future__ import annotations

import math

from psu_deploy.report.margins import Closest
from psu_deploy.verify import Decision

_FORMS = {
    "module": "the torch module",
    "machine": "the state machine",
    "rounded machine": "the rounded machine",
    "other machine": "the other machine",
}


def called(run: str) -> str:
    """A run, as a sentence names it."""
    return _FORMS.get(run, run)


def place(decision: Decision | Closest) -> str:
    """Step, sample and neuron."""
    neuron = ", ".join(map(str, decision.neuron))
    return f"step {decision.t}, sample {decision.sample}, neuron ({neuron})"


def multiple(times: float) -> str:
    """As many times.

    >>> multiple(12.345), multiple(12345), multiple(float("inf"))
    ('12.3 times', '12,300 times', 'infinitely often')
    """
    if math.isinf(times):
        return "infinitely often"
    return f"{times:.3g} times" if times < 1000 else f"{float(f'{times:.3g}'):,.0f} times"


def several(count: int, word: str) -> str:
    """A number of things.

    >>> several(1, "step"), several(2000, "step")
    ('1 step', '2,000 steps')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def percent(part: int, whole: int) -> str:
    """A share, never rounded up to all or down to nothing.

    >>> percent(3, 3), percent(9_999_999, 10_000_000), percent(0, 0)
    ('100 %', '99.9999 %', '100 %')
    """
    return "100 %" if part == whole else f"{math.floor(part / whole * 1e6) / 1e4:.4f} %"
