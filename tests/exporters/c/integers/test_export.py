"""Export, load, verify: the integers of C are measured against the machine, and must repeat the reference."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c.integers import export as export_module
from psu_deploy.exporters.c.integers.numbers import as_plain
from psu_deploy.exporters.integers.tree import tree_of_network
from psu_deploy.machine import Node, StateMachine, ops
from tests.exporters.c.integers.made import T, machine, refused, x
from tests.exporters.integers import networks, oracle


def test_what_it_says_of_itself(runner, original):
    assert (runner.name, runner.engine, runner.rounds, runner.resumes) == ("C, whole numbers", "C", True, True)
    assert (runner.repeats.name, runner.repeats.repeats) == ("integer reference", None)
    assert runner.artifact.target == "c"
    assert (runner.artifact.fidelity, runner.artifact.latency, runner.artifact.horizon) == ("approximate", 0, T)
    assert [line.kind for line in runner.contents.layers] == ["Dense, PSU", "Dense, Relay"]
    assert runner.report.layers[0].name == "l1"
    assert {file.name for file in original.parent.iterdir()} == {
        *("net.c", "net.h", "net.md", "net_weights.c", "net.quantisation.json")
    }
    said = json.loads((original.parent / "net.quantisation.json").read_text(), parse_constant=pytest.fail)
    assert said["spikes_compared"] == T * 2 * 8


def test_the_header_says_what_numbers_are_worth(runner, original):
    text = original.with_suffix(".h").read_text()
    macros = dict(re.findall(r"#define NET_(\w+) (.*)", text))
    units = [float(word) for word in macros["OUTPUT_UNITS"].strip("{ }").split(",")]
    assert units == runner.facts["units"]
    assert (macros["INPUT_UNIT"], macros["INPUT_LOW"], macros["INPUT_HIGH"]) == ("1.0", "(0)", "1")
    assert (macros["INPUTS"], macros["OUTPUTS"], macros["HORIZON"]) == ("4", "3", str(T))
    assert "one in channel c is worth entry c of NET_OUTPUT_UNITS" in text
    found = re.search(r"memory   ([\d,]+) bytes of state and ([\d,]+) of room", text)
    inside = sum(int(found[k].replace(",", "")) for k in (1, 2))
    assert 0 <= runner._libraries[0].states(1).size - inside < 8  # rounded up to a step counter


def test_stepping_running_and_tracing_are_one(runner):
    """And what the reference gives, whose numbers Lava is held against."""
    whole = runner.run(x())
    assert (whole.dtype, whole.shape) == (np.float32, (T, 2, 3))
    reference = runner.repeats
    np.testing.assert_array_equal(reference.run(x()), whole)
    trace = runner.trace(x())
    np.testing.assert_array_equal(trace.output, whole)
    np.testing.assert_array_equal(trace.spikes["l1"], reference.trace(x()).spikes["l1"])
    assert 0 < trace.spikes["l1"].mean() < 1
    runner.reset(2)
    first = [runner.step(row) for row in x()[:3]]
    runner.trace(x(4, 5, seed=3))
    np.testing.assert_array_equal(np.stack([*first, *(runner.step(row) for row in x()[3:])]), whole)
    with pytest.raises(psu.HorizonError, match="step 7 is past the horizon"):
        runner.step(x()[0])


def test_verify_names_module_integers_and_c(runner):
    report = psu.verify(machine(), runner, x())
    assert report.ok
    assert [(c.first, c.second, c.rule) for c in report.comparisons] == [
        ("machine", "integer reference", "measured"),
        ("integer reference", "C, whole numbers", "exact"),
    ]
    flips = (machine().trace(x()).spikes["l1"] != runner.trace(x()).spikes["l1"]).sum()
    assert report.comparisons[0].spike_flips == flips
    assert "EQUIVALENT: 96 spikes compared, 0 flips; rounding to integers changed" in report.verdict


def test_the_numbers_are_those_of_the_lava_export(runner, tmp_path):
    """And so is what rounding changed."""
    lava = psu.load(psu.export(machine(), tmp_path / "net.net", target="lava", calibration=x()), simulator="integer")
    trees = (as_plain(tree_of_network(one._network)) for one in (runner, lava))
    assert next(trees) == next(trees)
    assert runner.report == lava.report
    np.testing.assert_array_equal(lava.run(x()), runner.run(x()))


def test_another_machine(runner):
    first, *rest = (node.layer for node in machine().nodes)
    weight = np.array(first.weight)
    weight[3, 1] *= -1
    report = psu.verify(oracle.machine((4,), ops.Linear(weight, np.zeros(8)), *rest), runner, x())
    assert not report.ok
    assert re.match(r"layer/1/weight is -?\d+ at \(3, 1\), exporting this network gives", report.differences[0])


@pytest.mark.full
@pytest.mark.parametrize("kind", ["mean", "sum", "last"])
def test_readouts_are_made_by_whoever_calls(runner, tmp_path, kind):
    source = machine(ops.Readout(kind))
    decoded = psu.load(psu.export(source, tmp_path / "net.c", target="c", numerics="int8", calibration=x()))
    expected = oracle.read_out(kind, runner.run(x()).astype(np.float64))
    np.testing.assert_allclose(decoded.run(x()), expected, rtol=1e-6, atol=1e-6)
    said = {"last": "the y of the last step", "sum": "the sum of y over", "mean": "the mean of y over"}[kind]
    assert f"answer   {said}" in (tmp_path / "net.h").read_text()


REFUSED = {
    "no data": ({"numerics": "int8"}, 'C with numerics="int8" counts in whole numbers: pass calibration=x, typical'),
    "numerics": ({"numerics": "int4"}, "numerics must be one of float32, int8, got 'int4'"),
    "data alone": ({"calibration": x()}, 'calibration and input_range are for whole numbers: pass numerics="int8"'),
    "a file": ({"numerics": "int8", "weights_file": "bin", "calibration": x()}, "whole numbers are source text"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_go_together(tmp_path, kind):
    options, message = REFUSED[kind]
    with refused(message, psu.InputError):
        psu.export(machine(), tmp_path / "net.c", target="c", **options)
    assert not list(tmp_path.iterdir())


def test_what_has_no_integers(tmp_path):
    """The heading says whose integers these are, because the reasons name netx."""
    layers = (Node("a", ops.Activation("tanh"), ("x",)),)
    with refused("cannot export to C in whole numbers, which are those of the Lava export", psu.UnsupportedModelError):
        psu.export(StateMachine(layers, (4,)), tmp_path / "n.c", target="c", numerics="int8", calibration=x())
    assert not list(tmp_path.iterdir())


def test_what_was_written_must_compute_it(tmp_path, monkeypatch):
    sources_of = export_module.sources_of

    def broken(network, *rest):
        found = sources_of(network, *rest)
        network.layers[0].neuron.threshold[:] += 10**6  # the reference hears of it, the sources do not
        return found

    monkeypatch.setattr(export_module, "sources_of", broken)
    with refused("what was written does not compute what it should", psu.InternalError):
        psu.export(machine(), tmp_path / "net.c", target="c", numerics="int8", calibration=x())
    assert not list(tmp_path.iterdir())


@pytest.mark.rows(2)
@pytest.mark.full
@pytest.mark.parametrize("seed", range(12))
def test_random_networks(tmp_path, seed):
    """Trained-like networks of every kind of neuron, dense, image and row."""
    source = networks.machine(seed, 5)
    given = networks.spikes(source, 5, 3, seed, ("binary", "counts", "real")[seed // 3 % 3])
    artifact = psu.export(source, tmp_path / "net.c", target="c", numerics="int8", calibration=given)
    report = psu.verify(source, artifact, given)
    assert report.ok, report
    assert [comparison.rule for comparison in report.comparisons] == ["measured", "exact"]
