"""Export, load, verify: the integers of C are measured against the machine, and must repeat the reference."""

from __future__ import annotations

import json
import re
from hashlib import sha256

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c.header import MARK
from psu_deploy.exporters.c.integers import export as export_module
from psu_deploy.exporters.c.integers.numbers import as_plain
from psu_deploy.exporters.integers.tree import tree_of_network
from psu_deploy.machine import Node, StateMachine, ops
from tests import zoo
from tests.exporters.integers import networks, oracle

T = 6


def x(T=T, B=2, seed=0):
    return (np.random.default_rng(seed).random((T, B, 4)) < 0.5).astype(np.float32)


def machine(*more):
    def linear(outputs, inputs):
        return ops.Linear(np.random.default_rng(inputs).normal(0, 1, (outputs, inputs)), np.zeros(outputs))

    return oracle.machine((4,), linear(8, 4), zoo.NEURONS["rpsu"], linear(3, 8), *more)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return psu.export(machine(), folder / "net.c", target="c", numerics="int8", calibration=x()).path


@pytest.fixture
def path(original, tmp_path):
    """Files of one's own, to break."""
    for file in original.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "net.c"


@pytest.fixture
def runner(original):
    return psu.load(original)


def refused(message, kind=psu.ArtifactError):
    return pytest.raises(kind, match=re.escape(message))


def metadata(path, change):
    """The last comment, changed."""
    content, _, written = path.read_text().partition(f"\n{MARK}\n")
    facts = json.loads(written.removesuffix("*/\n"))
    change(facts)
    path.write_text(f"{content}\n{MARK}\n{json.dumps(facts)}\n*/\n")


def forge(path, name, before, after):
    """Change a file, and its hash: nothing but the numbers can tell."""
    file = path.parent / name
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    seen = file.read_text().partition(f"\n{MARK}\n")[0]
    metadata(path, lambda facts: facts["files"].update({name: sha256(seen.encode()).hexdigest()}))


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


@pytest.mark.full
def test_a_number_of_the_code_that_is_another(path):
    """The reference is made of other data than the code: what is compiled is not believed."""
    forge(path, "net.c", "x % 4096 * factor / 4096", "x % 4096 * factor / 4095")
    report = psu.verify(machine(), path, x())
    assert not report.ok
    (difference,) = report.differences
    assert re.match(r"net\.c, line \d+: there is 'return .* / 4095;', exporting this network gives '", difference)


@pytest.mark.full
def test_a_threshold_of_the_code_that_is_another(path):
    weights = (path.parent / "net_weights.c").read_text()
    begin = re.search(r"const int\d+_t net_l1_threshold\[8\] = \{\n    ", weights).group()
    forge(path, "net_weights.c", begin, f"{begin}-")
    report = psu.verify(machine(), path, x())
    assert not report.ok
    assert report.comparisons[1].spike_flips
    assert "C, whole numbers does not repeat the integer reference" in report.verdict


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


@pytest.mark.parametrize("name", ["net.c", "net.h", "net_weights.c"])
def test_an_edited_file(path, name):
    file = path.parent / name
    file.write_text(file.read_text().replace("/*", "/* !", 1))
    with refused(f"{name} is not what was written together with net.c: it was edited, damaged"):
        psu.load(path)


def _weight(facts, **other):
    facts["network"]["1"]["weight"] |= other


DAMAGE = {
    "format": (lambda facts: facts.update(format="psu-deploy.c-int8.9"), "it has format 'psu-deploy.c-int8.9'"),
    "base64": (lambda facts: _weight(facts, int8="@"), "numbers of the network are damaged"),
    "shape": (lambda facts: _weight(facts, shape=[8, 5]), "numbers of the network are damaged"),
    "two kinds": (lambda facts: _weight(facts, int16=""), "numbers of the network lie there as"),
    "a list": (lambda facts: facts["network"]["1"].update(weight=[1]), "there is list among the numbers"),
    "no layer": (lambda facts: facts["network"].pop("1"), "the layers must be 0 (an input), 1, 2, ..."),
    "too large": (
        lambda facts: _weight(facts, int8="gICAgA==", shape=[1, 4]),
        "'weight' must be whole numbers in -127",
    ),
    "code": (lambda facts: facts["code"].update(high=2**22), "its states could leave 24 bits"),
    "names": (lambda facts: facts["trace"].pop(), "there are 1 names for 2 layers"),
    "an identifier": (lambda facts: facts.update(trace=["a", "b; c"]), "malformed psu-deploy metadata"),
    "no report": (lambda facts: facts.pop("report"), "malformed psu-deploy metadata"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_metadata_that_make_no_sense(path, kind):
    change, message = DAMAGE[kind]
    metadata(path, change)
    with refused(message):
        psu.load(path)


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
    "a file": ({"numerics": "int8", "weights": "bin", "calibration": x()}, "whole numbers are source text"),
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
