"""What a public name says of itself is complete, and its example is one that `pytest --doctest-modules` runs."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import psu_deploy as psu
from psu_deploy.nn.neurons import PSN, Neuron

PACKAGE = Path(psu.__file__).parent

each = pytest.mark.parametrize("name", psu.__all__)


def parameters_of(thing):
    """Names of its arguments, as the caller writes them."""
    given = inspect.signature(thing).parameters.values()
    return [one.name for one in given if one.name != "self"]


@pytest.mark.rows(100)
@each
def test_it_has_an_example_that_runs_with_the_tests(name):
    thing = getattr(psu, name)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(thing))
    assert examples
    assert not any(example.options.get(doctest.SKIP) for example in examples)
    assert Path(inspect.getfile(thing)).is_relative_to(PACKAGE)  # one of the `testpaths`


@pytest.mark.rows(100)
@each
def test_it_names_every_argument(name):
    thing = getattr(psu, name)
    if (
        inspect.ismodule(thing)
        or thing is psu.EquivalenceReport
        or (issubclass(thing, Exception) if inspect.isclass(thing) else False)
    ):
        return  # nobody makes them but psu_deploy
    _, _, arguments = inspect.getdoc(thing).partition("Args:\n")
    missing = [one for one in parameters_of(thing) if not re.search(rf"^    {one}: ", arguments, re.MULTILINE)]
    assert not missing


@pytest.mark.parametrize("name", [name for name in psu.__all__ if inspect.isfunction(getattr(psu, name))])
def test_a_function_says_what_it_returns_and_raises(name):
    text = inspect.getdoc(getattr(psu, name))
    assert "\nReturns:\n" in text
    assert "\nRaises:\n" in text


def test_neurons_and_containers_say_shapes_and_what_they_refuse():
    kinds = [kind for kind in map(vars(psu).get, psu.__all__) if inspect.isclass(kind)]
    chosen = [kind for kind in kinds if issubclass(kind, Neuron | PSN) or kind.__module__.endswith("containers")]
    assert len(chosen) == 13
    for kind in chosen:
        text = inspect.getdoc(kind)
        assert "\nShapes: (T, B, " in text, kind
        assert "\nRaises:\n    InputError: " in text, kind
