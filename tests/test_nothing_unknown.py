"""Nothing unknown passes: whoever reads a machine refuses, by name, every kind its tables have no row for.

One who adds a kind starts with the reference interpreter. Here that is all that was done, and nobody else must guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import Refusal
from psu_deploy.exporters.lava import forms as lava_forms
from psu_deploy.exporters.lava import lower as lava
from psu_deploy.exporters.nir import lower as nir
from psu_deploy.exporters.nir import neurons as nir_neurons
from psu_deploy.exporters.onnx import lower as onnx
from psu_deploy.machine import Node, StateMachine, ops, reference, storage
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.passes import simplify
from psu_deploy.verify import certify, rounding

X = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
LEAK, STRICT = ops.Leak(0.5, 0.5), ops.StrictLeak(1.0, 0.5)
STAIRS = ops.Staircase(np.array([-0.5, 0.5]), 0.4, 0.1)


@dataclass(frozen=True, eq=False)
class Twice(ops.Layer):
    """`y = 2 x`: no kind of ours."""


@dataclass(frozen=True, eq=False)
class Halved(ops.CausalOperator):
    """`y = x/2`: no kind of ours."""


@dataclass(frozen=True, eq=False)
class Late(ops.CausalOperator):
    """`y = 0`, which sees no step of its own: no kind of ours, and fit for a reset."""

    @property
    def strict(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Hard(ops.Estimator):
    """`S' = 1 if E > 0 else 0`: no kind of ours."""


class SquareLinear(ops.Linear):
    """`(W x + b)^2`."""


class RisingLeak(ops.Leak):
    """A leak that counts its input twice."""


class SteepSigmoid(ops.Sigmoid):
    """`sigmoid(4 E)`."""


class OddNeuron(ops.SpikingNeuron):
    """Fires at every other step only."""


class SlowerWait(ops.Wait):
    """Waits one step more."""


def _linear(kind: type = ops.Linear) -> Any:
    return kind(np.eye(3), np.full(3, 0.1))


def _neuron(integrate: Any = LEAK, estimate: Any = None, estimator: Any = STAIRS, reset: Any = STRICT) -> Any:
    return ops.SpikingNeuron(integrate, estimate, estimator, reset, 0.3, ">=")


UNKNOWN: dict[str, tuple[ops.Layer, str, str]] = {
    # what: (layer, name in the refusal, what the reason says)
    "layer": (Twice(), "Twice", "no rule for this layer"),
    "integrate": (_neuron(integrate=Halved()), "Halved", "integrate of SpikingNeuron"),
    "estimate": (_neuron(estimate=Halved()), "Halved", "estimate of SpikingNeuron"),
    "reset": (_neuron(reset=Late()), "Late", "reset of SpikingNeuron"),
    "estimator": (_neuron(estimator=Hard()), "Hard", "estimator of SpikingNeuron"),
    "estimator without a reset": (_neuron(estimator=Hard(), reset=None), "Hard", "estimator of SpikingNeuron"),
    "filter": (ops.Filter(Halved()), "Halved", "operator of Filter"),
    "random": (ops.BernoulliNeuron(Halved(), 0), "Halved", "integrate of BernoulliNeuron"),
    "subclass of a layer": (_linear(SquareLinear), "SquareLinear", "it knows Linear, but a subclass may"),
    "subclass of an operator": (_neuron(RisingLeak(0.5, 0.5)), "RisingLeak", "it knows Leak, but a subclass may"),
    "subclass of an estimator": (_neuron(estimator=SteepSigmoid()), "SteepSigmoid", "it knows Sigmoid, but a subclass"),
    "subclass of a neuron": (OddNeuron(LEAK, None, STAIRS, STRICT, 0.3, ">="), "OddNeuron", "it knows SpikingNeuron"),
    "subclass of a subclass": (SlowerWait(1), "SlowerWait", "it knows Wait, but a subclass may"),
}


class Reader(NamedTuple):
    """Somebody who reads machines.

    Args:
        read: (machine, folder to write into); refuses what it does not know.
        name: as it calls itself.
        reference: whether it runs the reference interpreter on the way, so that the kind has to be known there.
    """

    read: Callable[[StateMachine, Path], Any]
    name: str
    reference: bool = True


def _to(target: str, suffix: str, **options: Any) -> Callable[[StateMachine, Path], Any]:
    return lambda machine, folder: psu.export(machine, folder / f"net{suffix}", target=target, **options)


READERS = {
    "save": Reader(lambda machine, folder: machine.save(folder / "net.psm"), "the .psm format"),
    "hash": Reader(lambda machine, folder: machine.content_hash, "the .psm format"),
    "onnx": Reader(_to("onnx", ".onnx"), "the ONNX exporter"),
    "nir": Reader(_to("nir", ".nir"), "the NIR exporter"),
    "nir, portable": Reader(_to("nir", ".nir", simulator="portable"), "the NIR exporter"),
    "nir, approximated": Reader(_to("nir", ".nir", allow_approximation=True, calibration=X), "the NIR exporter"),
    "lava": Reader(_to("lava", ".net", calibration=X), "the Lava exporter"),
    "run": Reader(lambda machine, folder: machine.run(X), "the reference interpreter", reference=False),
    "trace": Reader(lambda machine, folder: machine.trace(X), "the reference interpreter", reference=False),
    "bound": Reader(lambda machine, folder: certify(machine, X, machine.trace(X)), "the rounding bound"),
    "verify": Reader(lambda machine, folder: psu.verify(machine, machine, X), "the rounding bound"),
    "step": Reader(
        lambda machine, folder: machine.step(X[0], machine.initial_state(2)), "the reference interpreter", False
    ),
}
"""Everybody who reads machines: a row here, and nothing unknown may pass."""

VOCABULARIES: dict[str, Vocabulary] = {
    "reference": reference.VOCABULARY,
    "rounding bound": rounding.VOCABULARY,
    "onnx": onnx.VOCABULARY,
    "nir": nir.VOCABULARY,
    "lava": lava.VOCABULARY,
}
"""Whose tables must have a row for every kind there is."""


def machine_of(layer: ops.Layer) -> StateMachine:
    """A network that everybody knows but for one layer."""
    nodes = (
        Node("first", _linear(), ("x",)),
        Node("spikes", _neuron(), ("first",)),
        Node("blocks.1.odd", layer, ("spikes",)),
        Node("last", _linear(), ("blocks.1.odd",)),
    )
    return StateMachine(nodes, (3,))


@pytest.fixture
def known_to_the_reference(monkeypatch):
    """All of it has a meaning: any will do."""
    still, layer = (lambda part, *rest: rest[-2]), (lambda part, inputs, moment: inputs[0])
    for kind in (Twice, SquareLinear):
        monkeypatch.setitem(reference._EVALUATORS, kind, layer)
    monkeypatch.setitem(reference._EVALUATORS, OddNeuron, reference._EVALUATORS[ops.SpikingNeuron])
    monkeypatch.setitem(reference._EVALUATORS, SlowerWait, reference._EVALUATORS[ops.Wait])
    for kind in (Halved, Late):
        monkeypatch.setitem(reference._OPERATORS, kind, still)
    monkeypatch.setitem(reference._OPERATORS, RisingLeak, reference._OPERATORS[ops.Leak])
    for kind in (Hard, SteepSigmoid):
        monkeypatch.setitem(reference._ESTIMATORS, kind, still)


def refused(reader: Reader, machine: StateMachine, folder: Path) -> psu.UnsupportedModelError:
    with pytest.raises(psu.UnsupportedModelError) as caught:
        reader.read(machine, folder)
    assert not any(folder.iterdir()), "something was written"
    return caught.value


@pytest.mark.parametrize("what", UNKNOWN)
@pytest.mark.parametrize("name", READERS)
def test_an_unknown_kind_is_refused_by_name(name, what, tmp_path, request):
    layer, kind, said = UNKNOWN[what]
    reader, machine = READERS[name], machine_of(layer)
    if reader.reference:
        request.getfixturevalue("known_to_the_reference")
        machine.run(X)
    problems = [p for p in refused(reader, machine, tmp_path).problems if p.kind == kind]
    (problem,) = problems
    assert problem.path == "blocks.1.odd"
    assert reader.name in problem.reason
    assert said in problem.reason
    assert problem.remedy == "use a kind it knows, or write the rule"


@pytest.mark.parametrize("name", READERS)
def test_all_of_them_at_once(name, tmp_path, request):
    reader = READERS[name]
    if reader.reference:
        request.getfixturevalue("known_to_the_reference")
    nodes = (
        Node("a", Twice(), ("x",)),
        Node("b", _neuron(Halved(), Halved(), Hard(), Late()), ("a",)),
        Node("c", _linear(SquareLinear), ("b",)),
    )
    problems = refused(reader, StateMachine(nodes, (3,)), tmp_path).problems
    found = [(problem.path, problem.kind) for problem in problems]
    in_b = [("b", "Halved"), ("b", "Halved"), ("b", "Hard"), ("b", "Late")]
    assert found == [("a", "Twice"), *in_b, ("c", "SquareLinear")]


@pytest.mark.parametrize(
    ("target", "suffix", "options"), [("nir", ".nir", {}), ("lava", ".net", {"calibration": X})], ids=["nir", "lava"]
)
def test_beside_what_else_stands_in_the_way(target, suffix, options, tmp_path):
    nodes = (Node("a", ops.Activation("relu"), ("x",)), Node("b", Twice(), ("a",)), Node("c", _linear(), ("b",)))
    error = refused(Reader(_to(target, suffix, **options), ""), StateMachine(nodes, (3,)), tmp_path)
    assert [problem.kind for problem in error.problems] == ["Activation", "Twice"]


def test_a_kind_with_the_name_of_ours_is_told_apart(tmp_path):
    other = type("Linear", (Twice,), {"__module__": "theirs"})
    error = refused(READERS["onnx"], machine_of(other()), tmp_path)
    assert [problem.kind for problem in error.problems] == ["theirs.Linear"]


class TestAsked:
    """The parts of the interpreter that others call with no network around."""

    moment = reference.Moment(lambda array: torch.from_numpy(array), {}, 0)
    x = torch.zeros(2, 3)

    def test_a_layer(self):
        with pytest.raises(psu.UnsupportedModelError, match=r"Twice +the reference interpreter has no rule for this"):
            reference.evaluate(Twice(), [self.x], self.moment)

    def test_an_operator(self):
        with pytest.raises(psu.UnsupportedModelError, match=r"RisingLeak .*it knows Leak, but a subclass may compute"):
            reference.advance(RisingLeak(1.0, 0.5), "V", self.x, self.moment)

    def test_an_estimator(self):
        with pytest.raises(psu.UnsupportedModelError, match=r"Hard +the reference interpreter has no rule for this"):
            reference.estimate(Hard(), self.x, self.moment)


@pytest.mark.parametrize(("producer", "affine"), [(SquareLinear, ops.ChannelAffine), (ops.Linear, None)])
def test_no_batch_norm_is_folded_into_or_out_of_a_subclass(producer, affine, known_to_the_reference, monkeypatch):
    odd = type("OddAffine", (ops.ChannelAffine,), {})
    monkeypatch.setitem(reference._EVALUATORS, odd, reference._EVALUATORS[ops.ChannelAffine])
    norm = (affine or odd)(np.full(3, 2.0), np.ones(3))
    machine = StateMachine((Node("a", _linear(producer), ("x",)), Node("b", norm, ("a",))), (3,))
    assert [node.name for node in simplify(machine).nodes] == ["a", "b"]


def kinds_in(module: Any, base: type) -> set[type]:
    """Every concrete kind a module has."""
    kinds = {kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base)}
    return {kind for kind in kinds if is_dataclass(kind) and not kind.__name__.startswith("_")}


LAYERS = kinds_in(ops, ops.Layer)
OPERATORS = kinds_in(ops, ops.CausalOperator)
ESTIMATORS = kinds_in(ops, ops.Estimator)


class TestEveryKindHasARow:
    def test_there_are_kinds(self):
        assert {kind.__name__ for kind in LAYERS} == set(ops.__all__) - {"Layer", "Neuron", "Padding"}
        assert (len(OPERATORS), len(ESTIMATORS)) == (6, 4)

    @pytest.mark.parametrize("name", VOCABULARIES)
    def test_in_the_tables_of_a_reader(self, name):
        vocabulary = VOCABULARIES[name]
        assert set(vocabulary.layers) == LAYERS
        assert set(vocabulary.operators) == OPERATORS
        assert set(vocabulary.estimators) == ESTIMATORS

    def test_in_a_file(self):
        assert set(storage._KINDS.values()) == LAYERS | OPERATORS | ESTIMATORS

    @pytest.mark.parametrize(
        "table", [nir_neurons.RESETS, nir_neurons._ALONE, lava_forms.RESETS], ids=["nir resets", "nir alone", "lava"]
    )
    def test_in_every_role_of_an_operator(self, table):
        assert set(table) == OPERATORS

    @pytest.mark.parametrize("name", VOCABULARIES)
    def test_a_refusal_has_a_reason_and_a_remedy(self, name):
        vocabulary = VOCABULARIES[name]
        rows = [*vocabulary.layers.values(), *vocabulary.operators.values(), *vocabulary.estimators.values()]
        refusals = [row for row in rows if isinstance(row, Refusal)]
        assert all(row.reason and row.remedy for row in refusals)
        assert bool(refusals) == (name in ("nir", "lava"))


@pytest.mark.parametrize("role", ["integrate", "estimate", "operator"])
def test_a_strict_leak_is_no_leak_to_lava(role, tmp_path):
    """It is read before its input, and Lava's neurons read theirs behind it."""
    layer = ops.Filter(STRICT) if role == "operator" else _neuron(**{role: STRICT})
    nodes = (Node("first", _linear(), ("x",)), Node("strict", layer, ("first",)))
    (problem,) = refused(READERS["lava"], StateMachine(nodes, (3,)), tmp_path).problems
    assert (problem.path, problem.remedy) == ("strict", "use a leak, or export to ONNX or NIR")
    assert problem.reason.startswith("a strict leak outside a reset")


def test_fields_take_any_operator_and_estimator():
    neuron = _neuron(Halved(), Halved(), Hard(), Late())
    assert [type(getattr(neuron, field.name)) for field in fields(neuron)[:4]] == [Halved, Halved, Hard, Late]
    for wrong in (_linear(), ops.Sigmoid(), None):
        with pytest.raises(psu.InputError, match=r"SpikingNeuron.integrate must be"):
            _neuron(wrong)
    with pytest.raises(psu.InputError, match=r"SpikingNeuron.estimator must be"):
        _neuron(estimator=LEAK)
