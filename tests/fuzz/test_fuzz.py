"""Cases follow from their names; a journal goes on; the table counts; what is asked for wrongly is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.exporters.integers.runner import IntegerRunner
from psu_deploy.fuzz.case import Case, drawn_case, load_case, save_case
from psu_deploy.fuzz.exact import is_exact
from psu_deploy.fuzz.journal import NAME, Entry, Journal
from psu_deploy.fuzz.judge import judge
from psu_deploy.fuzz.options import Options
from psu_deploy.fuzz.oracle import fed
from psu_deploy.fuzz.outcome import Outcome
from psu_deploy.machine import Node, StateMachine, ops
from tests.cli.conftest import call
from tests.helpers import joined
from tests.zoo import chain

ENTRIES = (
    Entry(0, "onnx", Outcome("ok", spikes=100, knife_edges=2), 1.0),
    Entry(0, "nir", Outcome("refused", "Conv3d: not there", "cannot"), 0.5),
    Entry(1, "onnx", Outcome("unproven", "", "open", (), 7), 1.0),
    Entry(1, "nir", Outcome("failed", "wrong spikes", "NOT EQUIVALENT", ("layer 'a', step 0",), 9), 2.0),
)


def same(first, second):
    assert first.machine.content_hash == second.machine.content_hash
    np.testing.assert_array_equal(first.x, second.x)
    assert (first.state is None) == (second.state is None)
    for name, value in (first.state or {}).items():
        np.testing.assert_array_equal(value, second.state[name])
    assert (first.options, first.split, first.target) == (second.options, second.split, second.target)


@pytest.mark.parametrize("target", ["onnx", "c", "nir", "lava"])
def test_a_case_follows_from_its_name_and_is_saved(target, tmp_path):
    for number in range(4):
        case = drawn_case(3, number, target)
        same(case, drawn_case(3, number, target))
        save_case(case, tmp_path / "case.psm")
        same(case, load_case(tmp_path / "case.psm"))


def test_cases_differ_and_targets_of_one_vocabulary_share_networks():
    hashes = {drawn_case(seed, number, "onnx").machine.content_hash for seed in range(2) for number in range(6)}
    assert len(hashes) == 12
    assert drawn_case(0, 5, "onnx").machine.content_hash == drawn_case(0, 5, "c").machine.content_hash


def test_options_states_steps_and_batches_vary():
    cases = [drawn_case(0, number, target) for number in range(40) for target in ("onnx", "c")]
    options = {str(case.options.export) for case in cases}
    assert len(options) >= 8
    assert {case.state is None for case in cases} == {True, False}
    assert {len(case.x) for case in cases} >= {1, 2, 3, 6, 9}
    assert {case.x.shape[1] for case in cases} >= {1, 2, 3, 5, 8}
    assert {case.split > 0 for case in cases} == {True, False}


def test_rounded_weights_are_no_whole_numbers(tmp_path):
    """A file of them is judged as one of float32 is: what is drawn for a sample depends on its place in the batch."""
    machine = chain((3,), ops.Linear(np.ones((4, 3))), ops.BernoulliNeuron(ops.Identity(), 0))
    x = np.zeros((2, 5, 3), np.float32)
    outcome = judge(Case("0-0-onnx", machine, x, None, 0, "onnx", Options({"weights": "int8"}, {})), tmp_path)
    assert (outcome.status, outcome.reason) == ("ok", "")


def test_some_decisions_are_on_a_knifes_edge():
    """Float64 has a potential, less its reset, that is the threshold, but for the last bits."""
    close = 0
    for number in range(0, 60, 3):  # nothing in these is exact
        case = drawn_case(0, number, "onnx")
        state = None if case.state is None else {n: np.asarray(v) for n, v in case.state.items()}
        try:
            trace = case.machine.trace(fed(case).astype(np.float64), state)
        except psu.StateError:
            continue
        drawn = [np.abs(m) for m in trace.margin.values() if m.size]
        close += any(0 <= m.min() < 1e-12 for m in drawn)
    assert 3 <= close <= 14


def test_where_nothing_rounds_float32_is_float64():
    """In another order of the features, too, where there is one."""
    exact = 0
    for number in range(2, 60, 3):
        case = drawn_case(0, number, "onnx")
        if is_exact(case.machine, case.x):
            exact += 1
            single, double = (case.machine.trace(fed(case).astype(dtype)) for dtype in ("float32", "float64"))
            np.testing.assert_array_equal(joined(single.output), joined(double.output))
            for name, margin in single.margin.items():
                np.testing.assert_array_equal(margin, double.margin[name])
    assert exact >= 12


@pytest.mark.parametrize(
    "layer",
    [
        ops.Linear(np.array([[0.1]])),
        ops.Linear(np.full((1, 1), 2.0**-20), np.array([8.0])),
        ops.Filter(ops.Leak(1.0, 0.3)),
        ops.Activation("sigmoid"),
        ops.LIFNeuron(3.0, True, 0.5, "hard", ">="),
        ops.SpikingNeuron(ops.Leak(1.0, 0.5), None, ops.Sigmoid(), ops.StrictLeak(1.0, 0.5), 0.5, ">="),
        ops.SpikingNeuron(ops.Identity(), None, ops.RawCurrent(), None, 0.1, ">="),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_may_round_is_not_exact(layer):
    assert not is_exact(chain((1,), layer), np.ones((6, 1, 1), np.float32))


def test_an_exact_layer_is_not_exact_on_every_input():
    machine = chain((1,), ops.Linear(np.array([[0.25]])))
    assert is_exact(machine, np.ones((2, 1, 1), np.float32))
    assert not is_exact(machine, np.full((2, 1, 1), 0.1, np.float32))
    assert not is_exact(machine, np.full((2, 1, 1), 2.0**23, np.float32))


@pytest.mark.full
def test_whole_numbers_do_not_depend_on_the_batch(tmp_path, monkeypatch):
    """Where they have no other definition than themselves."""
    numbers = (n for n in range(1, 40) if n % 4)
    cases = (drawn_case(3, n, "lava") for n in numbers)
    case = next(c for c in cases if c.x.shape[1] > 1 and judge(c, tmp_path).status == "ok")
    right = IntegerRunner._trace

    def wrong(runner, x, state):
        trace = right(runner, x, state)
        return trace.with_outputs(lambda y: y + (x.shape[1] > 1))

    monkeypatch.setattr(IntegerRunner, "_trace", wrong)
    assert judge(case, tmp_path).kind == "wrong integers"


class TestJournal:
    def test_it_goes_on_and_drops_what_was_cut_off(self, tmp_path):
        first = Journal(tmp_path, 5)
        for entry in ENTRIES:
            first.add(entry)
        with (tmp_path / NAME).open("ab") as file:
            file.write(b'{"number": 2, "targ')
        second = Journal(tmp_path, None)
        assert (second.seed, tuple(second.entries)) == (5, ENTRIES)
        second.add(ENTRIES[0])
        assert len(Journal(tmp_path, 5).entries) == len(ENTRIES) + 1

    def test_of_another_seed_or_version(self, tmp_path):
        Journal(tmp_path, 5)
        with pytest.raises(psu.InputError, match=r"holds the cases of seed 5, not 6; name another folder"):
            Journal(tmp_path, 6)
        path = tmp_path / NAME
        path.write_text(path.read_text().replace(psu.__version__, "0.0.1"))
        with pytest.raises(psu.InputError, match=r"psu-deploy 0\.0\.1, whose networks are others"):
            Journal(tmp_path, 5)

    @pytest.mark.parametrize("content", ["nonsense\n", "[]\n", '{"format": 1}\n', '{"format": "psu-deploy.fuzz/1"}\n'])
    def test_that_is_none(self, content, tmp_path):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(psu.ArtifactError, match="is not the journal of psu-deploy fuzz"):
            Journal(tmp_path, None)


class TestCommand:
    """Without a case of its own: what is in the journal is counted."""

    @pytest.fixture
    def folder(self, tmp_path):
        journal = Journal(tmp_path / "kept", 0)
        for entry in ENTRIES:
            journal.add(entry)
        return tmp_path / "kept"

    def test_the_table(self, folder):
        result = call("fuzz", "--cases", 0, "--out", folder, "--targets", "onnx,nir")
        rows = [
            [cell.strip() for cell in line.strip("│").split("│")] for line in result.out.splitlines() if "│" in line
        ]
        assert ["onnx", "2", "1", "1", "0", "0", "107", "2", "60"] in rows
        assert ["nir", "2", "0", "0", "1", "1", "9", "0", "48"] in rows
        assert ["nir: Conv3d: not there", "1"] in rows
        assert "network 1, nir: wrong spikes: NOT EQUIVALENT" in result.out
        assert result.code == 1

    def test_as_json(self, folder):
        result = call("fuzz", "--cases", 0, "--out", folder, "--targets", "onnx", "--json")
        data = json.loads(result.out)
        assert data["ok"] is False  # a failure of a target that is not asked about is one all the same
        (onnx,) = data["targets"]
        assert (onnx["cases"], onnx["ok"], onnx["unproven"], onnx["spikes"], onnx["knife_edges"]) == (2, 1, 1, 107, 2)
        assert data["failures"][0]["differences"] == ["layer 'a', step 0"]

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--targets", "onx"], "unknown target 'onx' (did you mean onnx?); choose from c, lava, nir, onnx"),
            (["--targets", ","], "name at least one target: --targets onnx,nir,lava,c"),
            (["--minutes", "0"], "--minutes must be a number above 0, got 0.0"),
            (["--timeout", "nan"], "--timeout must be a number above 0, got nan"),
            (["--seed", "-1"], "--seed must be a whole number >= 0, got -1"),
            (["--cases", "-1"], "--cases must be a whole number >= 0, got -1"),
            (["--seed", "4"], "holds the cases of seed 0, not 4"),
            (["--repeat", "case.npz"], "case.npz is no case of the fuzzer; name its saved machine (.psm)"),
            (["--repeat", "case.psm"], "case.psm"),
        ],
    )
    def test_what_is_asked_wrongly(self, words, sentence, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        call("fuzz", "--out", folder, *words).failed_with(sentence)

    def test_a_case_without_its_input(self, tmp_path):
        path = chain((1,), ops.Flatten()).save(tmp_path / "case.psm")
        call("fuzz", "--repeat", path).failed_with("case.psm is no case of the fuzzer: its input")


def test_a_case_with_several_outputs_and_a_state_is_saved(tmp_path):
    nodes = (Node("a", ops.Delay(2), ("x",)), Node("y", ops.Outputs(("b", "c")), ("a", "x")))
    machine = StateMachine(nodes, (2,))
    case = drawn_case(0, 0, "onnx")
    state = {name: value + 1 for name, value in machine.initial_state(1).items()}
    x = torch.ones(3, 1, 2).numpy()
    made = type(case)("0-0-onnx", machine, x, state, 1, "onnx", Options({"events": True}, {"threads": 1}))
    save_case(made, tmp_path / "case.psm")
    same(made, load_case(tmp_path / "case.psm"))
