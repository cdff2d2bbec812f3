"""Nothing unknown passes: whoever reads a machine refuses, by name, every kind it has no rule for.

A kind that is not registered has no meaning to anybody. One that is registered says itself what it means, how it is
saved and how it rounds; a target that has no row for it refuses it, and must not guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import Refusal
from psu_deploy.exporters.integers import lower as lava
from psu_deploy.exporters.integers import real_operators
from psu_deploy.exporters.nir import lower as nir
from psu_deploy.exporters.nir import lower_neurons as nir_neurons
from psu_deploy.exporters.onnx import lower as onnx
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.operators import Terms
from psu_deploy.machine.passes import simplify
from psu_deploy.verify import aligned_run, certify, rounding

X = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
LEAK, STRICT = ops.Leak(0.5, 0.5), ops.StrictLeak(1.0, 0.5)
STAIRS = ops.Staircase(np.array([-0.5, 0.5]), 0.4, 0.1)


@dataclass(frozen=True, eq=False)
class Twice(ops.Layer):
    """`y = 2 x`: no kind of ours."""

    def step(self, inputs, context):
        return 2 * inputs[0]

    def error(self, inputs, context, roundoff):
        return roundoff.rounded(2 * inputs[0], 1)


@dataclass(frozen=True, eq=False)
class Halved(ops.CausalOperator):
    """`y = x/2`: no kind of ours."""

    def step(self, role, x, context):
        return x / 2

    def terms(self, step, roundoff):
        return Terms(1)


@dataclass(frozen=True, eq=False)
class Late(Halved):
    """`y = 0`, which sees no step of its own: no kind of ours, and fit for a reset."""

    @property
    def strict(self) -> bool:
        return True

    def step(self, role, x, context):
        return 0 * x


@dataclass(frozen=True, eq=False)
class Hard(ops.Estimator):
    """`S' = 1 if E > 0 else 0`: no kind of ours."""

    def step(self, value, context):
        return (value > 0).to(value.dtype)

    def error(self, pair, context, roundoff):
        return torch.ones_like(pair)


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
    """

    read: Callable[[StateMachine, Path], Any]
    name: str


def _to(target: str, suffix: str, **options: Any) -> Callable[[StateMachine, Path], Any]:
    return lambda machine, folder: psu.export(machine, folder / f"net{suffix}", target=target, **options)


TARGETS = {
    "onnx": Reader(_to("onnx", ".onnx"), "the ONNX exporter"),
    "nir": Reader(_to("nir", ".nir"), "the NIR exporter"),
    "nir, portable": Reader(_to("nir", ".nir", simulator="portable"), "the NIR exporter"),
    "nir, approximated": Reader(_to("nir", ".nir", allow_approximation=True, calibration=X), "the NIR exporter"),
    "lava": Reader(_to("lava", ".net", calibration=X), "the Lava exporter"),
}
"""Who has a table of their own."""

MEANING = {
    "save": Reader(lambda machine, folder: machine.save(folder / "net.psm"), "the .psm format"),
    "hash": Reader(lambda machine, folder: machine.content_hash, "the .psm format"),
    "run": Reader(lambda machine, folder: machine.run(X), "the reference interpreter"),
    "trace": Reader(lambda machine, folder: machine.trace(X), "the reference interpreter"),
    "step": Reader(lambda machine, folder: machine.step(X[0], machine.initial_state(2)), "the reference interpreter"),
    "bound": Reader(
        lambda machine, folder: rounding.rounding_bounds(machine, torch.from_numpy(X).double(), {}, {}, "float32"),
        "the rounding bound",
    ),
    "verify": Reader(lambda machine, folder: psu.verify(machine, machine, X), "the rounding bound"),
}
"""Who takes every kind at its own word, if it is registered."""

READERS = {**TARGETS, **MEANING}
"""Everybody who reads machines: a row here, and nothing unknown may pass."""

VOCABULARIES: dict[str, Vocabulary] = {"onnx": onnx.VOCABULARY, "nir": nir.VOCABULARY, "lava": lava.VOCABULARY}


def machine_of(layer: ops.Layer) -> StateMachine:
    """A network that everybody knows but for one layer."""
    nodes = (
        Node("first", _linear(), ("x",)),
        Node("spikes", _neuron(), ("first",)),
        Node("blocks.1.odd", layer, ("spikes",)),
        Node("last", _linear(), ("blocks.1.odd",)),
    )
    return StateMachine(nodes, (3,))


KINDS = {type(layer) for layer, *_ in UNKNOWN.values()} | {Halved, Late, Hard, RisingLeak, SteepSigmoid}


@pytest.fixture
def registered(monkeypatch):
    """All of it has a meaning."""
    for kind in KINDS:
        monkeypatch.setitem(ops.KINDS, kind.__name__, kind)


def refused(reader: Reader, machine: StateMachine, folder: Path) -> psu.UnsupportedModelError:
    with pytest.raises(psu.UnsupportedModelError) as caught:
        reader.read(machine, folder)
    assert not any(folder.iterdir()), "something was written"
    return caught.value


def check_refusal(reader: Reader, what: str, folder: Path) -> None:
    layer, kind, said = UNKNOWN[what]
    (problem,) = [p for p in refused(reader, machine_of(layer), folder).problems if p.kind == kind]
    assert problem.path == "blocks.1.odd"
    assert reader.name in problem.reason
    assert said in problem.reason
    assert problem.remedy == "use a kind it knows, or write the rule"


@pytest.mark.parametrize("what", UNKNOWN)
@pytest.mark.parametrize("name", READERS)
def test_an_unregistered_kind_is_refused_by_name(name, what, tmp_path):
    check_refusal(READERS[name], what, tmp_path)


@pytest.mark.parametrize("what", UNKNOWN)
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_refuses_what_it_has_no_row_for(name, what, tmp_path, registered):
    machine_of(UNKNOWN[what][0]).run(X)
    check_refusal(TARGETS[name], what, tmp_path)


@pytest.mark.parametrize("what", UNKNOWN)
def test_a_registered_kind_needs_no_more_to_be_saved_and_proven(what, tmp_path, registered):
    machine = machine_of(UNKNOWN[what][0])
    again = StateMachine.load(machine.save(tmp_path / "net.psm"))
    assert again.content_hash == machine.content_hash
    np.testing.assert_array_equal(again.run(X), machine.run(X))
    certificate = certify(machine, X, aligned_run(machine, machine.trace, X))
    assert certificate.ok
    assert "blocks.1.odd" in machine.summary()


@pytest.mark.parametrize("name", READERS)
def test_all_of_them_at_once(name, tmp_path):
    reader = READERS[name]
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


@pytest.mark.parametrize(("producer", "affine"), [(SquareLinear, ops.ChannelAffine), (ops.Linear, None)])
def test_no_batch_norm_is_folded_into_or_out_of_a_subclass(producer, affine, registered):
    odd = type("OddAffine", (ops.ChannelAffine,), {})
    norm = (affine or odd)(np.full(3, 2.0), np.ones(3))
    machine = StateMachine((Node("a", _linear(producer), ("x",)), Node("b", norm, ("a",))), (3,))
    assert [node.name for node in simplify(machine).nodes] == ["a", "b"]


def known(base: type) -> set[type]:
    return {kind for kind in ops.KINDS.values() if issubclass(kind, base)}


class TestTheRegistry:
    def test_there_are_kinds(self):
        bases = (ops.Layer, ops.CausalOperator, ops.Estimator)
        assert min(len(known(base)) for base in bases) >= 4
        assert all(getattr(ops, name) is kind for name, kind in ops.KINDS.items())

    def test_a_kind_says_all_there_is_to_say(self):
        def half(cls):
            with pytest.raises(psu.InputError, match=r"is no op before it defines error"):
                ops.op(cls)

        half(type("NoBound", (ops.Layer,), {"step": Twice.step}))
        half(type("NoBound", (ops.Estimator,), {"step": Hard.step}))
        assert "NoBound" not in ops.KINDS

    def test_a_name_is_taken_once(self):
        with pytest.raises(psu.InputError, match="there is an op called Linear already"):
            ops.op(type("Linear", (Twice,), {}))


class TestTables:
    @pytest.mark.parametrize("name", VOCABULARIES)
    def test_a_row_is_a_kind_there_is(self, name):
        vocabulary = VOCABULARIES[name]
        assert set(vocabulary.layers) <= known(ops.Layer)
        assert set(vocabulary.operators) <= known(ops.CausalOperator)
        assert set(vocabulary.estimators) <= known(ops.Estimator)

    def test_onnx_has_a_rule_for_every_kind(self):
        assert set(onnx.VOCABULARY.layers) == known(ops.Layer)
        assert set(onnx.VOCABULARY.operators) == known(ops.CausalOperator)
        assert set(onnx.VOCABULARY.estimators) == known(ops.Estimator)

    @pytest.mark.parametrize(
        "table",
        [nir_neurons.RESETS, nir_neurons._ALONE, real_operators.RESETS],
        ids=["nir resets", "nir alone", "lava"],
    )
    def test_in_every_role_of_an_operator(self, table):
        assert set(table) == known(ops.CausalOperator)

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
