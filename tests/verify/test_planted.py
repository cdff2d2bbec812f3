"""Bugs that are planted into a network before it is exported: verify says NOT EQUIVALENT, and where it begins.

The file says that it was made from the right network. What is in it is held against an export of that, and what it
does against exact arithmetic; each of the two must find the bug by itself and name the layer, the second the step too.
Which step that is, the oracles say: full T x T matrices in float64 numpy.

What the numbers alone can see depends on what an engine tells. ONNX and C tell V, R and margins: there every bug shows,
whether or not a spike does. Simulators of NIR tell spikes and outputs: a bug that turns no spike, or only spikes that
lie exactly on a threshold, where the other answer is what rounding could have made, is seen in the file alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine.ops.roundoff import Arithmetic
from psu_deploy.runtime import Structure
from psu_deploy.verify.own_margins import wrong_decisions
from tests import oracles
from tests.helpers import RawLIF
from tests.oracles import estimated, filtered
from tests.verify.planted import BUGS, NETWORKS, T, changed, data, ends_early, ends_late, layer_of
from tests.zoo import chain, neuron

pytest.importorskip("onnx")

ENDS = {"onnx": ".onnx", "c": ".c", "nir": ".nir"}
SAID = re.compile(r"[\w ]+: (V|R|the margin) of layer '(\w)' is off by .*, first at step (\d+)")
SPIKES = re.compile(r"decision\(s\) that rounding cannot explain, first at layer '(\w)', step (\d+), sample")


def exported(wrong, right, path, target):
    """An export of the wrong machine that says it is one of the right one."""
    vars(wrong)["content_hash"] = right.content_hash
    return psu.export(wrong, path.with_suffix(ENDS[target]), target=target).path


def values_of(machine, name, x):
    """V, R and S of a layer by the equations."""
    layer = layer_of(machine, name)
    (source,) = next(node.inputs for node in machine.nodes if node.name == name)
    current = oracles.run(machine, np.float64(x))[source]
    spikes = oracles.output_of(layer, current)
    if isinstance(layer, ops.LIFNeuron):
        raw = RawLIF(layer.tau, layer.threshold, layer.reset, layer.decay_input, layer.fire_on)
        return {"V": raw(current)[0], "R": 0 * spikes, "S": spikes}
    V = filtered(layer.integrate, current)
    E = V if layer.estimate is None else filtered(layer.estimate, current)
    return {"V": V, "R": filtered(layer.reset, estimated(layer.estimator, E)), "S": spikes}


def departures(right, wrong, name, x):
    """V, R, S -> the first step at which they differ by more than any rounding; left out where they never do.

    A spike of LIF feeds back: what its V does behind one that is another follows from that, and is not judged.
    """
    values = [values_of(machine, name, x) for machine in (right, wrong)]
    apart = {what: np.abs(values[0][what] - values[1][what]).reshape(T, -1).max(1) > 2e-5 for what in "VRS"}
    first = {what: int(steps.argmax()) for what, steps in apart.items() if steps.any()}
    if isinstance(layer_of(right, name), ops.LIFNeuron) and first.get("V", 0) > first.get("S", T):
        del first["V"]
    return first


def by_numbers(report):
    """What the runs alone say."""
    return replace(report, structure=Structure(unchecked="nobody looked"))


def failures(report):
    return [failure for comparison in report.comparisons for failure in comparison.failures]


def check_numbers(report, layer, expected):
    """Of V, R and margins nothing but those of the layer, each from the step at which it departs."""
    assert by_numbers(report).status == "NOT EQUIVALENT"
    told = [found.groups() for failure in failures(report) if (found := SAID.fullmatch(failure))]
    assert {name for _, name, _ in told} <= {layer}
    steps = {what: int(step) for what, _, step in told}
    assert {what: step for what, step in steps.items() if what in "VR"} == {
        what: step for what, step in expected.items() if what in "VR"
    }
    assert steps.get("the margin") == min((expected[what] for what in "VR" if what in expected), default=None)


def check_spikes(report, layer, step):
    """The first flip is in that layer, at that step, and rounding does not explain it."""
    assert report.first_divergence[:2] == (layer, step)
    (found,) = SPIKES.findall(by_numbers(report).verdict)
    assert found == (layer, str(step))


@pytest.mark.rows(15)
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_in_a_machine(network, bug):
    """Two machines, nothing exported."""
    right, (plant, layer) = NETWORKS[network], BUGS[bug]
    wrong, x = plant(right), data(right)
    check_runs(psu.verify(right, wrong, x), bug, layer, departures(right, wrong, layer, x))


def check_runs(report, bug, layer, expected):
    """What the runs show: of V, R and margins, of spikes, and of what a run says of its own decisions."""
    assert report.status == "NOT EQUIVALENT"
    check_numbers(report, layer, expected)
    said = " ".join(failures(report))
    if bug == "tie rule":
        assert f"spikes of layer '{layer}' contradict its own margins, first at step {expected['S']}" in said
    elif bug == "threshold":
        assert f"layer '{layer}' does not fire at 0.5: V - R less its margin is another number, by " in said
    elif bug != "float16 weight":
        check_spikes(report, layer, expected["S"])
    assert (report.spike_flips > 0) == ("S" in expected), "what turns no spike is found all the same"


@pytest.mark.full
@pytest.mark.rows(4)
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_in_onnx(network, bug, tmp_path):
    check_engine(network, bug, tmp_path / "net", "onnx")


@pytest.mark.full
@pytest.mark.rows(2)
@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_in_c(network, bug, tmp_path):
    check_engine(network, bug, tmp_path / "net", "c")


def check_engine(network, bug, path, target):
    right, (plant, layer) = NETWORKS[network], BUGS[bug]
    wrong, x = plant(right), data(right)
    report = psu.verify(right, exported(wrong, right, path, target), x)
    assert not report.notes, "the file says that it is of the right network"
    check_structure(report, layer, bug)
    check_runs(report, bug, layer, departures(right, wrong, layer, x))


def check_structure(report, layer, bug):
    """The layer of the number that is another: that of the weights, where they are; whoever comes a step later."""
    where = {"no bias": "c", "float16 weight": "a", "a step late": "late"}.get(bug, layer)
    named = rf"['_ ]({where}|{layer})([.'_,:]|$)"
    assert any(re.search(named, difference) for difference in report.differences), report.differences


@pytest.mark.full
def test_a_comment_in_c_is_named_after_what_it_is_about(tmp_path):
    """It stands before its function, behind another one."""
    right = NETWORKS["lif"]
    path = exported(BUGS["threshold"][0](right), right, tmp_path / "net", "c")
    first, *others = psu.load(path, compiled=False).structure(right).differences
    assert "in net_layer_b: there is 'S = 1 if H - 0.5000005f >= 0 else 0', exporting this network gives" in first
    assert all("in net_layer_b: " in other for other in others)


OF_NIR = [(network, bug) for network in ("lif", "stairs") for bug in BUGS]


@pytest.mark.full
@pytest.mark.rows(2)
@pytest.mark.parametrize(("network", "bug"), OF_NIR)
def test_in_nir(network, bug, tmp_path):
    """A simulator tells spikes and outputs."""
    pytest.importorskip("nir")
    right, (plant, layer) = NETWORKS[network], BUGS[bug]
    wrong, x = plant(right), data(right)
    report = psu.verify(right, exported(wrong, right, tmp_path / "net", "nir"), x)
    assert not report.notes
    assert report.status == "NOT EQUIVALENT"
    check_structure(report, layer, bug)
    expected = departures(right, wrong, layer, x)
    if bug in ("tie rule", "float16 weight", "threshold"):
        assert by_numbers(report).status == "EQUIVALENT"
        assert (report.spike_flips > 0) == ("S" in expected)
    else:
        assert by_numbers(report).status == "NOT EQUIVALENT"
        check_spikes(report, layer, expected["S"])


@pytest.mark.full
@pytest.mark.rows(1)
@pytest.mark.parametrize("target", ["onnx", "c"])
@pytest.mark.parametrize("network", ["ipsu", "rpsu"])
def test_a_step_more_or_less(network, target, tmp_path):
    """A matrix along time of another size: what it does within the steps that both have is the same."""
    right = NETWORKS[network]
    x = data(right)
    for plant, steps, said in ((ends_early, T - 1, "it ends too early"), (ends_late, T + 1, "state 'b.")):
        path = exported(plant(right), right, tmp_path / f"net{steps}", target)
        report = psu.verify(right, path, x)
        assert report.status == "NOT EQUIVALENT"
        assert report.differences
        alone = by_numbers(report)
        assert alone.status == "NOT EQUIVALENT"
        assert said in alone.verdict
        short = psu.verify(right, path, x[:2])
        assert short.spike_flips == 0
        assert short.status == "NOT EQUIVALENT"


@pytest.mark.full
def test_a_horizon_is_compared_whoever_wrote_the_file(tmp_path):
    """Another version may write other names by right; it may not write another end."""
    right = NETWORKS["rpsu"]
    runner = psu.load(exported(ends_late(right), right, tmp_path / "net", "onnx"))
    runner.structure = lambda machine: Structure(unchecked="another version wrote it")
    report = psu.verify(right, runner, data(right)[:2])
    assert report.differences == (f"it takes {T + 1} step(s), the network is defined for {T} step(s)",)
    assert report.status == "NOT EQUIVALENT"
    good = psu.load(psu.export(right, tmp_path / "good.onnx"))
    good.structure = lambda machine: Structure(unchecked="another version wrote it")
    assert psu.verify(right, good, data(right)).ok


@pytest.mark.full
@pytest.mark.parametrize("what", ["threshold", "weight"])
def test_the_least_that_is_seen(what, tmp_path):
    """The next float32 number is seen in the file alone. A run shows a threshold that is off by 6e-7 of itself, if
    some V and R are small, and a weight that moves V by more than its rounding bound, 4e-6 here.
    """
    right = NETWORKS["psu"]
    x = data(right)
    threshold, weight = layer_of(right, "b").threshold, layer_of(right, "a").weight
    seen = {}
    for size in (2.0**-23, 6e-7 if what == "threshold" else 1e-5):
        if what == "threshold":
            wrong = changed(right, "b", threshold=float(np.float32(threshold * (1 + size))))
        else:
            wrong = changed(right, "a", weight=np.float32(weight * np.where(np.eye(*weight.shape), 1 + size, 1)))
        report = psu.verify(right, exported(wrong, right, tmp_path / "net", "onnx"), x)
        assert report.status == "NOT EQUIVALENT"
        assert report.differences
        seen[size] = by_numbers(report).status
    assert list(seen.values()) == ["EQUIVALENT", "NOT EQUIVALENT"]


def rounded(x, way):
    """To float32: to nearest, or towards a number."""
    near = np.float32(x)
    if way is None:
        return np.float64(near)
    wrong = near > x if way < 0 else near < x
    return np.float64(np.where(wrong, np.nextafter(near, np.float32(way)), near))


@pytest.mark.parametrize("way", [None, -np.inf, np.inf], ids=["nearest", "down", "up"])
@pytest.mark.parametrize("fused", [False, True])
def test_no_engine_is_accused_of_its_rounding(way, fused):
    """Margins of V and R that were rounded after they were compared, or before, whichever way."""
    random = np.random.default_rng(0)
    layer = neuron(ops.Leak(0.5, 0.25), None, ops.StrictLeak(0.7, 0.5), threshold=0.4)
    machine = chain((5000,), layer)
    V, R = (random.normal(size=(1, 4, 5000)) * 2.0 ** random.integers(-20, 8, (1, 4, 5000)) for _ in range(2))
    told = rounded(V, way), rounded(R, way)
    compared = (V, R) if fused else told
    margin = rounded(rounded(compared[0] - compared[1], way) - np.float64(np.float32(0.4)), way)
    trace = replace(machine.trace(np.zeros((1, 4, 5000), np.float32)))
    values = {"potential": told[0], "reset": told[1], "margin": margin, "spikes": np.float64(margin >= 0)}
    trace = replace(trace, **{name: {"a": np.float32(value)} for name, value in values.items()})
    assert wrong_decisions(machine, trace, "float32", Arithmetic()) == []
    moved = replace(trace, margin={"a": np.float32(margin - 4e-7)}, spikes={"a": np.float32(margin - 4e-7 >= 0)})
    (said,) = wrong_decisions(machine, moved, "float32", Arithmetic())
    assert said.startswith("layer 'a' does not fire at 0.4: V - R less its margin is another number, by ")
    assert wrong_decisions(machine, moved, "float32", Arithmetic(remembers_margin=True)) == []
