"""The neurons a network can be built with, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PPSU, PSN, PSU, RPSU, SPSN, MaskedPSN, SlidingPSN, Surrogate

NeuronMaker = Callable[[], nn.Module]
"""Makes one neuron layer; called once per layer, in network order."""

SLIDING_ORDER = 4
"""Steps that a sliding PSN made by name looks at."""

NEURONS: dict[str, Callable[..., nn.Module]] = {
    "psu": lambda _, **firing: PSU(**firing),
    "ipsu": IPSU,
    "rpsu": RPSU,
    "ppsu": PPSU,
    "psn": PSN,
    "masked_psn": MaskedPSN,
    "sliding_psn": lambda _, **firing: SlidingPSN(SLIDING_ORDER, **firing),
    "spsn": lambda _: SPSN(),
    "lif": lambda _, **firing: LIF(**firing),
    "plif": lambda _, **firing: PLIF(**firing),
}
"""Name -> function of the number of steps T that makes one neuron layer with the defaults of its paper.

All but "spsn" take `surrogate=`, all but those in `WITHOUT_THRESHOLD` take `threshold=`.
"""

WITHOUT_THRESHOLD = ("psn", "masked_psn", "sliding_psn", "spsn")
"""Names of the neurons that have none: they learn a bias per step, or fire by chance."""

CAUSAL = tuple(name for name in NEURONS if name != "psn")
"""Names of the neurons that have a serial form."""


def neuron_maker(
    neuron: str | NeuronMaker, T: int, *, threshold: float | None = None, surrogate: Surrogate | None = None
) -> NeuronMaker:
    """A function without arguments that makes one neuron layer after the other.

    Args:
        neuron: a name in `NEURONS`, or such a function itself.
        T: number of time steps.
        threshold: of a neuron made by name that has one; None = its default.
        surrogate: of a neuron made by name that has one; None = its default.

    Raises:
        InputError: if there is no such neuron, or T is not a whole number >= 1.
    """
    if not isinstance(T, int) or T < 1:
        raise InputError(f"T is a number of steps and must be a whole number >= 1, got {T!r}")
    if callable(neuron):
        return neuron
    if neuron not in NEURONS:
        raise InputError(f"neuron must be one of {', '.join(NEURONS)} or a function that makes one, got {neuron!r}")
    firing: dict[str, Any] = {}
    if threshold is not None and neuron not in WITHOUT_THRESHOLD:
        firing["threshold"] = threshold
    if surrogate is not None and neuron != "spsn":
        firing["surrogate"] = surrogate
    return lambda: NEURONS[neuron](T, **firing)
