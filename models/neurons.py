"""The neurons a network can be built with, by name."""

from __future__ import annotations

import inspect
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
    "psu": lambda _, **options: PSU(**options),
    "ipsu": IPSU,
    "rpsu": RPSU,
    "ppsu": PPSU,
    "psn": PSN,
    "masked_psn": MaskedPSN,
    "sliding_psn": lambda _, order=SLIDING_ORDER, **options: SlidingPSN(order, **options),
    "spsn": lambda _, **options: SPSN(**options),
    "lif": lambda _, **options: LIF(**options),
    "plif": lambda _, **options: PLIF(**options),
}
"""Name -> function of the number of steps T, and of options of the neuron's class, that makes one neuron layer.

What is not said has the default of its paper. All but "spsn" take `surrogate=`, all but those in `WITHOUT_THRESHOLD`
take `threshold=`.
"""

_CLASSES: dict[str, type[nn.Module]] = {
    "psu": PSU,
    "ipsu": IPSU,
    "rpsu": RPSU,
    "ppsu": PPSU,
    "psn": PSN,
    "masked_psn": MaskedPSN,
    "sliding_psn": SlidingPSN,
    "spsn": SPSN,
    "lif": LIF,
    "plif": PLIF,
}

_SAID_OTHERWISE = ("T", "surrogate", "estimator")
"""Arguments of the classes that are no options: the network knows the one, and the others are no plain values."""

WITHOUT_THRESHOLD = ("psn", "masked_psn", "sliding_psn", "spsn")
"""Names of the neurons that have none: they learn a bias per step, or fire by chance."""

CAUSAL = tuple(name for name in NEURONS if name != "psn")
"""Names of the neurons that have a serial form."""


def neuron_maker(
    neuron: str | NeuronMaker,
    T: int,
    *,
    threshold: float | None = None,
    surrogate: Surrogate | None = None,
    **options: Any,
) -> NeuronMaker:
    """A function without arguments that makes one neuron layer after the other.

    Args:
        neuron: a name in `NEURONS`, or such a function itself.
        T: number of time steps.
        threshold: of a neuron made by name that has one; None = its default.
        surrogate: of a neuron made by name that has one; None = its default.
        options: other arguments of its class, of a neuron made by name, such as tau or bias.

    Raises:
        InputError: if there is no such neuron, its class has no such argument, or T is not a whole number >= 1.
    """
    if not isinstance(T, int) or T < 1:
        raise InputError(f"T is a number of steps and must be a whole number >= 1, got {T!r}")
    if callable(neuron):
        return neuron
    if neuron not in NEURONS:
        raise InputError(f"neuron must be one of {', '.join(NEURONS)} or a function that makes one, got {neuron!r}")
    _check_options(neuron, options)
    if threshold is not None and neuron not in WITHOUT_THRESHOLD:
        options["threshold"] = threshold
    if surrogate is not None and neuron != "spsn":
        options["surrogate"] = surrogate
    return lambda: NEURONS[neuron](T, **options)


def neuron_options(neuron: str) -> dict[str, Any]:
    """The options of a neuron that is made by name, with their defaults; `InputError` if there is no such neuron."""
    if neuron not in _CLASSES:
        raise InputError(f"neuron must be one of {', '.join(_CLASSES)}, got {neuron!r}")
    arguments = inspect.signature(_CLASSES[neuron]).parameters
    return {name: argument.default for name, argument in arguments.items() if name not in _SAID_OTHERWISE}


def _check_options(neuron: str, options: dict[str, Any]) -> None:
    taken = neuron_options(neuron)
    for name, value in options.items():
        if name not in taken:
            raise InputError(f"{neuron} has the options {', '.join(taken)}; got {name}")
        if type(taken[name]) is bool and type(value) is not bool:
            raise InputError(f"the option {name} of {neuron} must be true or false, got {value!r}")
