"""From the words of a recipe to neurons and a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.models.neurons import WITHOUT_THRESHOLD, NeuronMaker, neuron_maker
from psu_deploy.nn.neurons import Atan, PiecewiseLinear, Rectangle, Surrogate

_SURROGATES: dict[str, Callable[[], Surrogate]] = {
    "atan": Atan,
    "piecewise_linear": PiecewiseLinear,
    "rectangle": Rectangle,
}


OWN = "own"
"""In the place of a neuron's name: the network has neurons of its own."""


def takes_neuron(network: Callable[..., nn.Module]) -> bool:
    """Whether a network is made of the neurons it is given."""
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return any(parameter.kind not in by_name for parameter in inspect.signature(network).parameters.values())


def make_neuron(name: str, steps: int, surrogate: str | None, options: Mapping[str, Any]) -> NeuronMaker:
    """A function that makes one neuron layer after the other; one is made to see that it can be.

    Raises:
        InputError: if the neuron has no such argument, or not with such a value.
    """
    if name in WITHOUT_THRESHOLD and "threshold" in options:
        raise InputError(f"{name} has no threshold; leave it out of its options, got {options['threshold']!r}")
    if name == "spsn" and surrogate is not None:
        raise InputError(f"spsn fires at random and has no surrogate; leave it out, got {surrogate!r}")
    gradient = None if surrogate is None else _SURROGATES[surrogate]()
    make = neuron_maker(name, steps, surrogate=gradient, **options)
    try:
        with torch.random.fork_rng(devices=[]):
            make()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be made with the options {dict(options)}: {error}") from error
    return make


def filled_sizes(network: Callable[..., nn.Module], **sizes: Any) -> dict[str, Any]:
    """The sizes of a network, those that are None replaced by what it has by default.

    Raises:
        InputError: if a size is given that the network does not take.
    """
    taken = inspect.signature(network).parameters
    for name, size in sizes.items():
        if name not in taken and size is not None:
            raise InputError(f"the network of this task takes no {name}; leave it out, got {size!r}")
    defaults = {name: taken[name].default for name in sizes if name in taken}
    for name, default in defaults.items():
        if default is inspect.Parameter.empty and sizes[name] is None:
            raise InputError(f"the network of this task has no default of {name}; say what it is")
    return {name: defaults.get(name) if size is None else size for name, size in sizes.items()}


def build_network(network: Callable[..., nn.Module], neuron: NeuronMaker | None, **sizes: Any) -> nn.Module:
    """A network with fresh weights, drawn from torch's global generator; None: it has neurons of its own."""
    given = () if neuron is None else (neuron,)
    return network(*given, **{name: size for name, size in sizes.items() if size is not None})
