"""Which decisions a portable certificate holds certain, and what it says of the others."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.errors import ArtifactError, HorizonError, InputError
from psu_deploy.fuzz.grow import random_machine
from psu_deploy.machine import Node, StateMachine, ops
from tests.verify.test_portable_soundness import DECIDING, fed, on_edge
from tests.zoo import MACHINES, chain, neuron
from tests.zoo import o as operators

CHECKER = Path(__file__).parents[2] / "examples" / "check_certificate.py"
CHECK = runpy.run_path(str(CHECKER))
U = Fraction(1, 2**24)


def fires(threshold, *, fire_on=">="):
    return neuron(operators.Identity(), threshold=threshold, fire_on=fire_on)


def on_the_edge(weight=-0.1, threshold=0.25):
    """0.1 + 0.2 against 0.3, and a second layer that this spike moves by `weight`."""
    first = ops.Linear([[0.1, 0.2, 0.0], [0.0, 0.0, 1.0]])
    return chain((3,), first, fires(0.3), ops.Linear([[weight, 1.0]]), fires(threshold))


def ones(steps=1, batch=1, features=3):
    return np.ones((steps, batch, features), np.float32)


def test_margins_are_exact_and_bounds_at_least_what_a_sum_can_lose():
    """Two additions of three numbers that binary32 holds: by hand, and no looser than twice that."""
    numbers = [0.5, 0.375, 2.0**-20]
    (layer,) = psu.certify(chain((3,), ops.Linear([numbers]), fires(0.25)), ones()).layers
    exact = sum(map(Fraction, numbers)) - Fraction(1, 4)
    assert Fraction(float(layer.margin[0, 0, 0])) == exact
    least = 2 * U * Fraction(0.5)  # two roundings of sums between 0.5 and 1
    assert least <= Fraction(float(layer.bound[0, 0, 0])) <= 10 * least
    assert layer.certified.all()


def test_a_knife_edge_is_named():
    certificate = psu.certify(on_the_edge(), ones(2, 3))
    assert not certificate.ok
    edge = certificate.knife_edges[0]
    assert (edge.layer, edge.t, edge.sample, edge.neuron) == ("b", 0, 0, (0,))
    assert abs(edge.margin) <= edge.bound < 1e-6
    assert certificate.certified_decisions == 2 * 3 * 2
    assert certificate.verdict == "66.66 % CERTIFIED: 6 of 18 decisions may differ between runtimes"
    said = str(certificate).splitlines()
    assert said[1] == "  layer 'b': 50.00 % certified, 6 not"
    assert said[3].startswith("  knife edge: at layer 'b', step 0, sample 0, neuron (0,): margin ")
    assert said[-1].startswith("next: ")


def test_all_is_certified():
    certificate = psu.certify(on_the_edge(), 2 * ones())
    assert certificate.ok
    assert certificate.certified_share == 1.0
    assert str(certificate) == certificate.verdict
    assert certificate.verdict.startswith(
        "CERTIFIED: 3 of 3 decisions hold in every IEEE-754 binary32 runtime; tightest at layer 'b', step 0, sample 0, "
    )


@pytest.mark.parametrize(
    ("weight", "cases", "sure"),
    [(-0.1, 1, True), (-0.7, 1, False), (-0.8, 1, False), (-0.1, 16, True), (-0.7, 16, True), (-0.8, 16, False)],
)
def test_what_a_knife_edge_cannot_turn_stays_certified(weight, cases, sure):
    """The second layer sees 1.0 + weight * S against 0.25; doubt alone allows weight * (S - 1) and weight * (S + 1)."""
    certificate = psu.certify(on_the_edge(weight), ones(), cases=cases)
    assert [layer.certified_decisions for layer in certificate.layers] == [1, int(sure)]
    assert certificate.cases_of == ((1,) if cases == 1 else (2,))


def test_every_knife_edge_doubles_the_cases_up_to_so_many():
    first = ops.Linear([[0.1, 0.2, 0.0], [0.2, 0.1, 0.0], [0.0, 0.1, 0.2]])
    machine = chain((3,), first, fires(0.3), ops.Linear([[1.0, 1.0, 1.0]]), fires(3.5))
    assert [psu.certify(machine, ones(), cases=most).cases_of for most in (1, 2, 5, 16)] == [(1,), (2,), (5,), (8,)]
    assert psu.certify(machine, ones()).layers[1].certified.all()


def test_cases_find_what_two_effects_of_a_spike_leave():
    """What one layer adds for a spike in doubt the next takes away: apart, each could turn the decision."""
    both = ops.Linear([[1.0, 1.0], [1.0, 1.0]])
    first = ops.Linear([[0.1, 0.2, 0.0], [0.0, 0.0, 0.1]])
    machine = chain((3,), first, fires(0.3), both, fires(0.5), ops.Linear([[1.0, -1.0]]), fires(0.5))
    assert psu.certify(machine, ones(), cases=1).layers[-1].certified_decisions == 0
    assert psu.certify(machine, ones()).layers[-1].certified_decisions == 1


@pytest.mark.parametrize(("reset", "second"), [("hard", 0.5), ("soft", 0.5)])
def test_a_membrane_remembers_a_doubtful_reset(reset, second):
    """After 0.3 against 0.3 the membrane holds 0 or 0.3; 0.5 more is above 0.6 or is not."""
    lif = ops.LIFNeuron(None, False, 0.3, reset, ">=")
    machine = chain((3,), ops.Linear([[0.1, 0.2, 0.0]]), lif)
    x = ones(2)
    x[1] = 0.05  # then 0.015, and 0.315 where it did not fire
    for cases in (1, 16):
        certificate = psu.certify(machine, x, cases=cases)
        assert certificate.layers[0].certified[:, 0, 0].tolist() == [False, False]
    assert psu.certify(machine, 0.5 * x).ok


def test_doubt_ends_with_the_memory():
    """A leak forgets the doubtful spike by half each step."""
    first, leak = ops.Linear([[0.1, 0.2, 0.0]]), neuron(operators.Leak(1.0, 0.5), threshold=0.3)
    machine = chain((3,), first, fires(0.3), ops.Linear([[0.5]]), leak)
    x = np.zeros((4, 1, 3), np.float32)
    x[0] = 1.0
    for cases, second in ((1, False), (16, True)):  # 0.25 against 0.3: it may be off by 0.25 either way, or by less
        certified = psu.certify(machine, x, cases=cases).layers[1].certified[:, 0, 0]
        assert certified.tolist() == [False, second, True, True]


@pytest.mark.parametrize(("fire_on", "threshold"), [(">=", 0.0), (">", 0.0)])
def test_nothing_is_rounded_in_silence(fire_on, threshold):
    assert psu.certify(chain((3,), ops.Linear(np.ones((2, 3))), fires(threshold, fire_on=fire_on)), 0 * ones()).ok


def test_pools_of_spikes_are_exact():
    pooled = chain((1, 4), fires(0.5), ops.AvgPool((4,), (4,), ((0, 0),)), fires(0.5))
    given = psu.certify(chain((1, 1), fires(0.5)), np.full((1, 1, 1, 1), 0.75, np.float32))
    x = np.array([1.0, 1.0, 0.0, 1.0], np.float32).reshape(1, 1, 1, 4)
    assert psu.certify(pooled, x).layers[1].largest_bound == given.layers[0].largest_bound


def test_an_input_that_binary32_does_not_hold_is_rounded():
    machine = chain((1,), fires(1.0 + 2.0**-26))
    assert not psu.certify(machine, np.full((1, 1, 1), 1.0 + 2.0**-26 + 2.0**-40)).ok


def test_overflow_is_not_certified():
    machine = chain((2,), ops.Linear([[1e30, 1e30]]), fires(0.5))
    certificate = psu.certify(machine, np.full((1, 1, 2), 1e30, np.float32))
    assert not certificate.ok
    assert certificate.knife_edges[0].bound == np.inf


def test_a_layer_decides_from_its_first_input_on():
    ahead = ops.TimeConv(np.ones((1, 1, 2)), None, 1, lookahead=1)
    (layer,) = psu.certify(chain((1,), ahead, fires(0.3)), ones(4, 2, 1)).layers
    assert (layer.first, layer.decisions) == (1, 3 * 2)
    assert layer.margin.shape == (4, 2, 1)


def test_a_network_without_neurons():
    assert psu.certify(chain((3,), ops.Linear(np.ones((2, 3)))), ones()).verdict.startswith("NOTHING TO CERTIFY")


def test_what_it_refuses():
    machine = on_the_edge()
    with pytest.raises(InputError, match="time-first"):
        psu.certify(machine, np.ones((1, 3), np.float32))
    with pytest.raises(InputError, match="cases must be a whole number, 1 or more, got 0"):
        psu.certify(machine, ones(), cases=0)
    with pytest.raises(HorizonError):
        psu.certify(MACHINES["rpsu neuron"], np.ones((99, 1, 3), np.float32))


# -- files


def test_a_certificate_is_saved_and_loaded(tmp_path):
    certificate = psu.certify(on_the_edge(), ones(2, 3))
    loaded = psu.PortableCertificate.load(certificate.save(tmp_path / "new" / "certificate.json"))
    assert loaded == certificate
    assert str(loaded) == str(certificate)
    assert loaded.layers[0].margin is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format="other"), "not a portable certificate"),
        (lambda d: d.update(version=2), "of version 2"),
        (lambda d: d.update(certified=3), "contradicts itself"),
        (lambda d: d.pop("layers"), "malformed"),
        (lambda d: d["layers"][0].update(decisions="x"), "malformed"),
    ],
)
def test_a_damaged_certificate_is_refused(change, says, tmp_path):
    path = psu.certify(on_the_edge(), ones()).save(tmp_path / "certificate.json")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=says):
        psu.PortableCertificate.load(path)


def test_no_certificate(tmp_path):
    with pytest.raises(ArtifactError, match="cannot read"):
        psu.PortableCertificate.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(ArtifactError, match="malformed"):
        psu.PortableCertificate.load(tmp_path / "half.json")


# -- the independent check


def written(machine, x, folder, cases=16):
    np.save(folder / "x.npy", x)
    psu.certify(machine, x, cases=cases).save(folder / "certificate.json")
    return str(machine.save(folder / "net.psm")), str(folder / "x.npy"), str(folder / "certificate.json")


def agrees(machine, x, folder):
    """Whether the script knows the machine's layers; if it does, it must agree."""
    knows = True
    for cases in (1, 16):
        try:
            wrong, decisions = CHECK["check"](*written(machine, x, folder, cases))
        except CHECK["UnknownError"]:
            knows = False
            continue
        assert wrong == []
        assert decisions > 0
    return knows


NOT_KNOWN = {"table neuron", "table behind a learned estimate neuron"} | {
    f"bernoulli{rest} neuron" for rest in ("", ", other seed", " on a window")
}


@pytest.mark.parametrize("name", [name for name in DECIDING if name.endswith("neuron") or " neuron on " in name])
def test_the_script_agrees_on_every_neuron(name, tmp_path):
    x = fed(MACHINES[name])
    assert agrees(on_edge(MACHINES[name], x, 1e-9), x, tmp_path) == (name not in NOT_KNOWN)


LAYERS = [
    *("linear", "linear without bias", "linear on (C, L)", "conv1d", "conv1d asymmetric padding"),
    *("conv1d groups, dilation", "conv2d", "conv2d asymmetric", "conv2d depthwise", "channel affine"),
    *("channel affine on (C, L)", "channel affine on (C, H, W)", "mean", "mean, padded", "mean, padding not counted"),
]


@pytest.mark.parametrize("name", LAYERS)
def test_the_script_agrees_on_layers(name, tmp_path):
    """The layer before and between neurons, the second time on spikes."""
    machine = MACHINES[name]
    layer, shape = machine.nodes[0].layer, machine.input_shape
    before, after = neuron(operators.Leak(0.7, 0.5), None, operators.StrictLeak(0.3, 0.5)), fires(0.2)
    x = fed(machine)
    assert agrees(on_edge(chain(shape, before, layer, after), x, 1e-9), x, tmp_path)
    assert agrees(on_edge(chain(shape, layer, after), x, 1e-9), x, tmp_path)


@pytest.mark.parametrize("joined", [True, False])
def test_the_script_agrees_on_a_residual_network_with_batch_norm(joined, tmp_path):
    """Folded by a runtime or not; two readers, and an Add."""
    random = np.random.default_rng(0)
    weight, affine = random.standard_normal((2, 2, 3)), ops.ChannelAffine([0.3, -0.7], [1.5, 0.1])
    nodes = [
        Node("conv", ops.Conv1d(weight, None, (1,), ((1, 1),), (1,), 1), ("x",)),
        Node("norm", affine, ("conv",)),
        Node("fire", fires(0.2), ("norm",)),
        Node("pool", ops.MaxPool((2,), (1,), ((0, 1),)), ("fire",)),
        Node("add", ops.Add(), ("pool", "conv" if joined else "fire")),
        Node("cut", ops.Activation("relu"), ("add",)),
        Node("flat", ops.Flatten(), ("cut",)),
        Node("filter", ops.Filter(operators.Leak(1.0, 0.3)), ("flat",)),
        Node("again", fires(0.4), ("filter",)),
        Node("read", ops.Readout("mean"), ("again",)),
    ]
    machine = StateMachine(tuple(nodes), (2, 6))
    x = random.standard_normal((5, 3, 2, 6)).astype(np.float32)
    assert agrees(on_edge(machine, x, 1e-9), x, tmp_path)


@pytest.mark.full
@pytest.mark.rows(6)
@pytest.mark.parametrize("seed", range(300))
def test_the_script_agrees_on_random_machines_or_names_what_it_does_not_know(seed, tmp_path):
    machine = random_machine(seed, 4)
    if machine.spiking:
        x = fed(machine, seed)
        agrees(on_edge(machine, x, 1e-9), x, tmp_path)


def test_it_names_what_it_does_not_know(tmp_path):
    machine = chain((3,), ops.ELU(1.0), fires(0.3), ops.Softmax(0))  # nothing decides behind the softmax
    with pytest.raises(CHECK["UnknownError"], match=r"^layer 'a': ELU$"):
        CHECK["check"](*written(machine, ones(), tmp_path))


def everything_certified(d):
    d.update(verdict="CERTIFIED: 18 of 18 decisions hold in every IEEE-754 binary32 runtime", certified=18)


def no_tightest(d):
    d.update(tightest=None)
    for layer in d["layers"]:
        layer.update(tightest=None, largest_bound=0.0)


ALONE = "the machine alone tells"
CHANGES = {
    "format": (lambda d: d.update(format="x"), "not a portable certificate"),
    "version": (lambda d: d.update(version=99), "of version 99"),
    "verdict": (lambda d: d.update(verdict="CERTIFIED"), "contradicts itself"),
    "everything certified": (everything_certified, "contradicts itself"),
    "machine": (lambda d: d.update(machine="0" * 64), ALONE),
    "machine without a hash": (lambda d: d.update(machine=""), "the SHA-256 of its machine is none"),
    "inputs": (lambda d: d["input"].update(sha256="0" * 64), ALONE),
    "inputs without a hash": (lambda d: d["input"].update(sha256="x"), "the SHA-256 of its input is none"),
    "shape": (lambda d: d["input"].update(shape=[1000, 1000, 3]), "1000 samples, each of 1 to 16 cases, are not"),
    "shape of a sample": (lambda d: d["input"].update(shape=[2, 3, 7]), ALONE),
    "no shape": (lambda d: d["input"].update(shape=[]), "are not .T, B"),
    "precision": (lambda d: d["arithmetic"].update(precision="bfloat16, TF32"), "contradicts itself"),
    "unit roundoff": (lambda d: d["arithmetic"].update(unit_roundoff=2.0**-8), "contradicts itself"),
    "cases": (lambda d: d["cases"].update(of_samples=[1, 1, 2]), ALONE),
    "number of cases": (lambda d: d["cases"].update(most=1), "each of 1 to 1 cases, are not"),
    "no cases": (lambda d: d["cases"].update(most=0), "each of 1 to 0 cases, are not"),
    "sum of decisions": (lambda d: d.update(decisions=19), "contradicts itself"),
    "sum of certified ones": (lambda d: d.update(certified=18), "contradicts itself"),
    "overall tightest": (lambda d: d.update(tightest={**d["tightest"], "margin": 1e9}), "contradicts itself"),
    "no overall tightest": (lambda d: d.update(tightest=None), "contradicts itself"),
    "no tightest": (no_tightest, "the tightest of them is None"),
    "name": (lambda d: d["layers"][1].update(name="z"), "is none of its own"),
    "one name twice": (lambda d: d["layers"][1].update(name="b"), "two layers have one name"),
    "first step": (lambda d: d["layers"][0].update(first_step=1), "is none of its own"),
    "first step behind the last": (lambda d: d["layers"][0].update(first_step=5), "12 decisions from step 5 on"),
    "first step before the first": (lambda d: d["layers"][0].update(first_step=-1), "its first step is -1"),
    "decisions of a layer": (lambda d: d["layers"][0].update(decisions=13), "13 decisions from step 0 on"),
    "certified ones": (lambda d: d["layers"][0].update(certified=12), "0 decisions are not certified, and it lists 1"),
    "more than all": (lambda d: d["layers"][0].update(certified=99), "99 of 12 decisions are certified"),
    "margin": (lambda d: d["layers"][1]["tightest"].update(margin=0.8), ALONE),
    "bound": (lambda d: d["layers"][1]["tightest"].update(bound=3e-7), ALONE),
    "uncertain tightest": (lambda d: d["layers"][1]["tightest"].update(margin=0.0), "and is not certified"),
    "margin of the tightest": (lambda d: d["layers"][0]["tightest"].update(margin=0.0143), "contradicts itself"),
    "place": (lambda d: d["layers"][1]["tightest"].update(t=1, sample=1), ALONE),
    "place outside": (lambda d: d["layers"][1]["tightest"].update(sample=-1), "is none of its own"),
    "place of another layer": (lambda d: d["layers"][1]["tightest"].update(layer="b"), "is none of its own"),
    "largest bound": (lambda d: d["layers"][1].update(largest_bound=1.0), ALONE),
    "no largest bound": (lambda d: d["layers"][1].update(largest_bound=0.0), "and is not certified"),
    "an infinite one": (lambda d: d["layers"][1].update(largest_bound=float("inf")), "its largest bound is inf"),
    "no edges": (lambda d: d["knife_edges"].clear(), "1 decisions are not certified, and it lists 0"),
    "edge twice": (lambda d: d["knife_edges"].append(d["knife_edges"][0]), "and it lists 2"),
    "margin of an edge": (lambda d: d["knife_edges"][0].update(margin=1.0), "its margin is above its bound"),
    "small margin of an edge": (lambda d: d["knife_edges"][0].update(margin=1e-9), ALONE),
    "bound of an edge": (lambda d: d["knife_edges"][0].update(bound=1e-20), "its margin is above its bound"),
    "large bound of an edge": (lambda d: d["knife_edges"][0].update(bound=1.0), ALONE),
    "no bound of an edge": (lambda d: d["knife_edges"][0].update(bound=0.0), "its margin is above its bound"),
    "infinite edge": (lambda d: d["knife_edges"][0].update(margin=None, bound=None), ALONE),
    "place of an edge": (lambda d: d["knife_edges"][0].update(neuron=[1]), ALONE),
    "edge outside": (lambda d: d["knife_edges"][0].update(t=2), "no place for a knife edge"),
    "layer of an edge": (lambda d: d["knife_edges"][0].update(layer="z"), "and it lists 1"),
    "missing": (lambda d: d.pop("verdict"), "contradicts itself"),
    "missing in a layer": (lambda d: d["layers"][0].pop("first_step"), "malformed"),
    "unknown": (lambda d: d.update(signed_by="somebody"), "contradicts itself"),
    "unknown in an edge": (lambda d: d["knife_edges"][0].update(note="harmless"), "contradicts itself"),
    "of another kind": (lambda d: d["layers"][0].update(decisions="12"), "contradicts itself"),
}  # fmt: skip


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Two layers with 17 certified decisions and a knife edge; the machine, the inputs and the certificate."""
    x = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 3)).astype(np.float32)
    x[0, 0] = 1.0
    return written(on_the_edge(), x, tmp_path_factory.mktemp("right"))


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", CHANGES)
def test_no_field_can_be_forged(name, right, tmp_path):
    change, says = CHANGES[name]
    machine, inputs, certificate = right
    assert CHECK["check"](*right) == ([], 18)
    psu.PortableCertificate.load(certificate)
    data = json.loads(Path(certificate).read_text())
    change(data)
    forged = tmp_path / "certificate.json"
    forged.write_text(json.dumps(data))
    assert CHECK["check"](machine, inputs, forged)[0]
    if says is ALONE:
        psu.PortableCertificate.load(forged)
    else:
        with pytest.raises(ArtifactError, match=says):
            psu.PortableCertificate.load(forged)


def test_a_field_that_is_there_twice_is_refused(right, tmp_path):
    """A reader may see the first of them, or the last."""
    machine, inputs, certificate = right
    twice = tmp_path / "certificate.json"
    twice.write_text(Path(certificate).read_text().replace("{", '{"verdict": "CERTIFIED: everything",', 1))
    assert CHECK["check"](machine, inputs, twice)[0] == ["it is no JSON: a field is there twice"]
    with pytest.raises(ArtifactError, match="a field is there twice"):
        psu.PortableCertificate.load(twice)


def test_the_script_knows_every_sentence_and_every_infinity(tmp_path):
    """All is certified; a bound is infinite; more knife edges than are listed."""
    huge = chain((2,), ops.Linear([[1e30, 1e30]]), fires(0.5)), np.full((1, 1, 2), 1e30, np.float32)
    for machine, x in ((on_the_edge(), 2 * ones()), huge, (on_the_edge(), ones(2, 600))):
        assert CHECK["check"](*written(machine, x, tmp_path))[0] == []


@pytest.mark.full
def test_the_script_needs_neither_torch_nor_psu_deploy(tmp_path):
    files = written(on_the_edge(), ones(), tmp_path)
    blocked = "import sys, runpy; sys.modules.update(dict.fromkeys(['torch', 'psu_deploy', 'safetensors']))"
    script = f"{blocked}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script, str(CHECKER), *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "RIGHT: all of 3 decisions are as it says\n")
