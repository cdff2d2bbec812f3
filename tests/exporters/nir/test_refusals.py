"""What NIR, or one reader of it, cannot express is refused: layer, reason, what to do. Nothing is left behind."""

from __future__ import annotations

import importlib
import re
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.nir.export import export as nir_export
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from tests.exporters.nir.machines import (
    BANDED,
    BRANCHES,
    FAMILY,
    HARD,
    IF_HARD,
    IMAGES,
    INTEGRATING,
    LEAK,
    LINES,
    MATRIX,
    PSU,
    SLIDING,
    SOFT,
    STRICT,
    chain,
    conv2d,
    lif,
    linear,
    neuron,
    normal,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

SIGMOID = neuron(LEAK, None, STRICT, estimator=o.Sigmoid())
POOL = ops.MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)))
PREPARE = 'psu_deploy.prepare(model, target="nir")'
EXPONENTIALS = 'psu_deploy.prepare(model, target="nir", exponentials=4), fine-tune, capture again'


def graph(*nodes, features=(3,), output=""):
    return StateMachine(tuple(Node(*node) for node in nodes), features, output)


REFUSED = {
    "sigmoid": (chain((3,), SIGMOID), "a", "NIR has no sigmoid", PREPARE),
    "table of the sigmoid": (
        chain((3,), neuron(LEAK, None, STRICT, estimator=o.SigmoidTable())),
        "a",
        "NIR has no table of the sigmoid",
        f"{PREPARE} makes a staircase of it; fine-tune, capture again",
    ),
    "learned matrix": (chain((3,), neuron(MATRIX)), "a", "a learned T x T matrix varies with time", EXPONENTIALS),
    "banded matrix": (chain((3,), neuron(BANDED)), "a", "a learned T x T matrix varies with time", EXPONENTIALS),
    "matrix of the estimate": (chain((3,), neuron(LEAK, MATRIX, STRICT)), "a", "a learned T x T matrix", EXPONENTIALS),
    "filter by a matrix": (
        chain((3,), ops.Filter(MATRIX)),
        "a",
        "a learned T x T matrix varies with time",
        EXPONENTIALS,
    ),
    "random": (chain((3,), ops.BernoulliNeuron(LEAK, 0)), "a", "it fires at random", "train with PSU, IPSU or RPSU"),
    "product": (
        graph(("a", PSU, ("x",)), ("b", ops.Multiply(), ("a", "x"))),
        "b",
        "NIR has no product of two signals",
        "leave the gate or the attention out",
    ),
    "hand-over": (
        graph(("a", PSU, ("x",)), ("b", ops.HandOver(0.4, 0.8), ("a", "x"))),
        "b",
        "a membrane that feeds back through a sine",
        "export to ONNX",
    ),
    "sum of two shapes": (
        graph(("a", PSU, ("x",)), ("b", linear(1, 3), ("a",)), ("c", ops.Add(), ("a", "b"))),
        "c",
        "adds features of different shapes [(1,), (3,)]",
        "bring them to one shape before",
    ),
    "pooling over three axes": (
        chain((2, 4, 4, 4), ops.SumPool((2,) * 3, (2,) * 3, ((0, 0),) * 3)),
        "a",
        "a pooling over three axes",
        "export to ONNX",
    ),
    "running maximum": (
        chain((3,), PSU, ops.Readout("max")),
        "b",
        "the running max",
        "read out one of last, sum, mean",
    ),
    "relu": (chain((3,), ops.Activation("relu")), "a", "no pointwise nonlinearity", "use a neuron layer in its place"),
    "sigmoid layer": (chain((3,), ops.Activation("sigmoid")), "a", "no pointwise nonlinearity", "use a neuron layer"),
    "maximum of numbers": (
        chain((2, 4, 4), conv2d(2, 2, (1, 1)), POOL),
        "b",
        "MaxPool of numbers that are not spikes",
        "pool spikes, or use AvgPool",
    ),
    "maximum of the input": (chain((2, 4, 4), POOL), "a", "MaxPool of numbers that are not spikes", "pool spikes"),
    "maximum of means": (
        chain((2, 4, 4), PSU, ops.AvgPool((2, 2), (1, 1), ((0, 0), (0, 0))), POOL),
        "c",
        "MaxPool of numbers that are not spikes",
        "pool spikes, or use AvgPool",
    ),
    "a layer nobody reads": (
        graph(("a", PSU, ("x",)), ("b", linear(2, 3), ("a",)), output="a"),
        "b",
        "nothing reads it",
        "remove it, or make it the output",
    ),
    "held spikes": (
        graph(("a", PSU, ("x",)), ("b", ops.Hold(), ("a",)), ("c", linear(2, 3), ("b",))),
        "b",
        "the value of the first step, held while the input goes on",
        "leave Hold out",
    ),
    "held input": (chain((3,), ops.Hold(), PSU), "a", "the value of the first step", "leave Hold out"),
    "reset of negative decay": (
        chain((3,), neuron(LEAK, None, o.StrictLeak(0.7, -0.5))),
        "a",
        "a decay of -0.5 per step is not a leak",
        "keep decays within [0, 1]",
    ),
    "reset that grows": (chain((3,), neuron(LEAK, None, o.StrictLeak(0.7, 1.5))), "a", "a decay of 1.5", "[0, 1]"),
    "readout inside": (
        chain((3,), ops.Readout("mean"), PSU),
        "a",
        "a readout inside the network varies with time",
        "read out at the network's end only",
    ),
    "linear on two axes": (chain((2, 3), linear(4, 3)), "a", "Linear over the last of 2 axes", "flatten before it"),
    "mixed parity": (
        chain((2, 6, 6), conv2d(3, 2, (2, 3))),
        "a",
        "NIR pads both sides alike and knows square kernels only",
        "use an odd or a square kernel with symmetric padding",
    ),
    "mean without its padding": (
        chain((2, 6, 6), ops.AvgPool((2, 2), (2, 2), ((1, 1), (1, 1)), count_padding=False)),
        "a",
        "AvgPool that does not count its padding",
        "use count_include_pad=True or no padding",
    ),
    "four axes": (
        chain((2, 2, 2, 2), ops.ChannelAffine(normal(2), normal(2))),
        "a",
        "features of 4 axes",
        "use fewer axes",
    ),
    "neurons on four axes": (
        chain((2, 2, 2, 2), FAMILY["ipsu"]),
        "a",
        "features of 4 axes",
        "features of one or three",
    ),
    "negative decay": (
        chain((3,), neuron(o.Leak(1.0, -0.5))),
        "a",
        "a decay of -0.5 per step is not a leak",
        "keep decays within [0, 1]",
    ),
    "growing": (
        chain((3,), neuron(o.Exponentials(np.ones(2), np.array([0.5, 1.5])))),
        "a",
        "a decay of 1.5 per step",
        "keep decays within [0, 1]",
    ),
    "a strict leak as V": (
        chain((3,), neuron(STRICT)),
        "a",
        "StrictLeak in this place",
        "use a leak, exponentials or a sliding window",
    ),
    "window beside leak": (
        chain((3,), neuron(SLIDING["sliding window of 3"].integrate, LEAK, STRICT)),
        "a",
        "a window beside Leak in one neuron",
        "use the same kind of operator for both",
    ),
    "reset by a window": (
        chain((3,), neuron(LEAK, None, o.Window(np.array([[0.0, 1.0]]), np.zeros(1), time_invariant=True))),
        "a",
        "a reset along Window",
        "use the strict leak of the PSU family",
    ),
    "never forgets beside others": (
        chain((3,), neuron(o.Exponentials(np.ones(2), np.array([0.5, 1.0])))),
        "a",
        "a leak that never forgets beside others",
        "keep decays below 1",
    ),
}
"""Name -> machine, layer, reason, remedy."""


def refused(machine, simulator=None, **options):
    with pytest.raises(psu.UnsupportedModelError) as error:
        psu.export(machine, "/nowhere/net.nir", target="nir", simulator=simulator, **options)
    return error.value


@pytest.mark.parametrize("name", REFUSED)
def test_not_in_nir(name):
    machine, layer, reason, remedy = REFUSED[name]
    error = refused(machine)
    assert "cannot export the network to NIR" in str(error)
    assert len(error.problems) == 1, error
    (problem,) = error.problems
    assert (problem.path, problem.kind) == (layer, type(machine.nodes["abc".index(layer)].layer).__name__)
    assert reason in problem.reason
    assert remedy in problem.remedy
    assert problem.reason in str(error)
    assert problem.remedy in str(error)


def test_latency():
    machine = graph(
        ("late", ops.TimeConv(normal(3, 3, 3), None, 1, lookahead=2), ("x",)),
        ("waits", ops.Wait(2), ("x",)),
        ("sum", ops.Add(), ("late", "waits")),
    )
    (problem,) = refused(machine).problems
    assert (problem.path, problem.kind, problem.remedy) == ("x", "latency", "remove the look-ahead along time")
    assert "answers 2 step(s) late" in problem.reason


def test_everything_at_once():
    """All problems in one table, not the first alone."""
    machine = chain((3,), SIGMOID, ops.Activation("relu"), neuron(MATRIX), ops.Readout("sum"), PSU)
    error = refused(machine, "norse")
    assert [problem.path for problem in error.problems] == ["a", "b", "c", "d"]
    assert "4 problem(s)" in str(error)


READERS = {
    "two paths in norse": (
        BRANCHES["parallel branches"],
        "norse",
        "sum",
        "it sums parallel branches, and norse runs it before d is known",
        "snntorch or spikingjelly",
    ),
    "two paths in all": (
        BRANCHES["parallel branches"],
        "portable",
        "sum",
        "it sums parallel branches",
        "snntorch or spikingjelly",
    ),
    "two paths in sinabs": (
        BRANCHES["parallel branches"],
        "sinabs",
        "sum",
        "sinabs runs it before d is known",
        "snntorch or spikingjelly",
    ),
    **{
        f"if hard in {reader}": (
            chain((3,), IF_HARD["if hard"]),
            reader,
            "a",
            "cannot read IF, a neuron without leak",
            "spikingjelly",
        )
        for reader in ("norse", "snntorch", "portable")
    },
    **{
        f"lif below zero in {reader}": (
            chain((3,), lif(threshold=-0.5)),
            reader,
            "a",
            "cannot read LIF with a threshold of zero or less",
            "use a positive threshold",
        )
        for reader in ("snntorch", "portable")
    },
    **{
        f"conv1d in {reader}": (
            LINES["conv1d"],
            reader,
            "b",
            "cannot read layers over features of 2 axes",
            "features of one or three axes",
        )
        for reader in ("norse", "portable")
    },
    "window in sinabs": (
        chain((3,), SLIDING["sliding window of 3"]),
        "sinabs",
        "a",
        "reads neither delays nor cycles, so no sliding window",
        "use a neuron made of leaks (PSU)",
    ),
    "delay in sinabs": (
        chain((3,), ops.Delay(2)),
        "sinabs",
        "a",
        "reads neither delays nor cycles",
        "another simulator",
    ),
    "lif hard in sinabs": (
        chain((3,), HARD["lif hard, divided, 2.0, >="]),
        "sinabs",
        "a",
        "LIF in sinabs subtracts, and spikes several times per step",
        "use PSU, or another simulator",
    ),
    "lif soft in sinabs": (
        chain((3,), SOFT["lif soft, divided, 2.0, >="]),
        "sinabs",
        "a",
        "LIF in sinabs subtracts",
        "use PSU, or another simulator",
    ),
    "no leak in sinabs": (
        chain((3,), INTEGRATING["psu that never forgets"]),
        "sinabs",
        "a",
        "sinabs has no leak that never forgets",
        "keep decays below 1",
    ),
    "images in sinabs": (
        IMAGES["conv2d"],
        "sinabs",
        "b",
        "sinabs reads neurons of one axis only",
        "flatten before the neuron",
    ),
    "images in rockpool": (
        IMAGES["conv2d"],
        "rockpool",
        "b",
        "rockpool reads dense layers only",
        "use nn.Linear, or another simulator",
    ),
    "one neuron in rockpool": (
        chain((1,), neuron(LEAK)),
        "rockpool",
        "a",
        "rockpool cannot read a leak of one neuron",
        "use two neurons or more",
    ),
    "two decays in rockpool": (
        chain((3,), FAMILY["ipsu"]),
        "rockpool",
        "a",
        "rockpool reads leaks of one decay per layer",
        "use PSU, or another simulator",
    ),
    "image and dense": (
        graph(
            ("a", ops.Flatten(), ("x",)),
            ("b", linear(12, 12), ("a",)),
            ("c", ops.Add(), ("a", "b")),
            features=(3, 2, 2),
        ),
        "portable",
        "the network",
        "a sum of a flattened image and a dense layer",
        "flatten both branches behind the sum",
    ),
    "only flat": (
        chain((3, 2, 2), ops.Flatten()),
        "norse",
        "the network",
        "a network that only flattens",
        "add a layer",
    ),
}
"""Name -> machine, simulator, layer, reason, remedy."""


@pytest.mark.parametrize("name", READERS)
def test_not_in_a_simulator(name):
    machine, simulator, layer, reason, remedy = READERS[name]
    error = refused(machine, simulator)
    found = [(problem.path, reason in problem.reason, remedy in problem.remedy) for problem in error.problems]
    assert (layer, True, True) in found, error
    title = {"portable": "the portable set (norse, snntorch, SpikingJelly)"}.get(simulator, simulator)
    assert f"cannot export the network to NIR for {title}" in str(error)


def test_problems_of_a_simulator_are_collected_too():
    machine = chain((3,), SLIDING["sliding window of 3"], linear(3, 3), lif())
    assert [problem.path for problem in refused(machine, "sinabs").problems] == ["a", "c"]


@pytest.fixture(params=["no file before", "a file before"])
def folder(request, tmp_path):
    """Whatever happens, it is as it was."""
    if request.param == "a file before":
        (tmp_path / "net.nir").write_text("old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    yield tmp_path
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestNothingIsWritten:
    def test_when_refused(self, folder):
        with pytest.raises(psu.UnsupportedModelError):
            psu.export(chain((3,), SIGMOID), folder / "net.nir", target="nir")
        with pytest.raises(psu.UnsupportedModelError):
            psu.export(chain((3,), lif()), folder / "net.nir", target="nir", simulator="sinabs")

    def test_when_the_simulator_is_unknown(self, folder):
        names = "canonical, portable, norse, snntorch, spikingjelly, sinabs"
        with pytest.raises(psu.InputError, match=f"simulator must be one of {names}.*, got 'brian'"):
            psu.export(chain((3,), PSU), folder / "net.nir", target="nir", simulator="brian")

    @pytest.mark.parametrize("trouble", [KeyboardInterrupt, MemoryError, OSError])
    def test_when_interrupted(self, folder, monkeypatch, trouble):
        def interrupt(*_):
            assert len([path for path in folder.iterdir() if path.name != "net.nir"]) == 1, "a temporary file"
            raise trouble

        monkeypatch.setitem(nir_export.__globals__, "self_check", interrupt)
        with pytest.raises(psu.ArtifactError if trouble is OSError else trouble):
            psu.export(chain((3,), PSU), folder / "net.nir", target="nir")

    @pytest.mark.parametrize("simulator", [None, "portable", "norse", "snntorch", "spikingjelly", "sinabs"])
    @pytest.mark.parametrize("damage", ["threshold", "decay", "bias"])
    def test_when_the_file_is_wrong(self, folder, monkeypatch, simulator, damage):
        """The exporter's own check catches what it wrote itself."""
        machine = DAMAGE[damage](monkeypatch)
        message = "the exported graph, run in .*, does not compute what the machine computes.*Nothing was written"
        with pytest.raises(psu.InternalError, match=message):
            psu.export(machine, folder / "net.nir", target="nir", simulator=simulator)


@pytest.mark.full
def test_a_delay_line_that_would_need_a_huge_matrix(tmp_path):
    machine = chain((64,), ops.Delay(200), PSU)
    with pytest.raises(psu.UnsupportedModelError, match=r"needs a matrix of 12864 x 12864 for a memory of 201 steps"):
        psu.export(machine, tmp_path / "net.nir", target="nir", simulator="portable")
    psu.export(machine, tmp_path / "net.nir", target="nir")


def test_when_nir_infers_another_shape(tmp_path, monkeypatch):
    """NIR's inference is known to misjudge some layers."""
    base = importlib.import_module("psu_deploy.exporters.nir.dialects.base")
    monkeypatch.setattr(base, "pair", lambda values: (1, 1))
    machine = IMAGES["conv2d, no bias, stride"]
    with pytest.raises(
        psu.InternalError, match=r"(node 'a' gives features|NIR finds the graph inconsistent).*; please report it"
    ):
        psu.export(machine, tmp_path / "net.nir", target="nir")
    assert not any(tmp_path.iterdir())


def _wrong_threshold(monkeypatch):
    neurons = importlib.import_module("psu_deploy.exporters.nir.lower_neurons")
    right = neurons.lower_spiking_neuron
    lower = importlib.import_module("psu_deploy.exporters.nir.lower")
    monkeypatch.setattr(lower, "lower_spiking_neuron", lambda n, *a: right(replace(n, threshold=n.threshold + 0.3), *a))
    return chain((20,), linear(20, 20), PSU)


def _wrong_decay(monkeypatch):
    neurons = importlib.import_module("psu_deploy.exporters.nir.lower_neurons")
    right = neurons.OPERATORS[o.Leak]
    monkeypatch.setitem(neurons.OPERATORS, o.Leak, lambda leak: right(replace(leak, decay=0.9 * leak.decay)))
    return chain((20,), linear(20, 20), PSU)


def _no_bias(monkeypatch):
    lower = importlib.import_module("psu_deploy.exporters.nir.lower")
    right = lower._RULES[ops.Linear]
    monkeypatch.setitem(lower._RULES, ops.Linear, lambda layer, *rest: right(ops.Linear(layer.weight), *rest))
    return chain((3,), linear(4, 3))


DAMAGE = {"threshold": _wrong_threshold, "decay": _wrong_decay, "bias": _no_bias}


@pytest.mark.parametrize("name", ["net", "net.onnx", "net.nir.bak", "net.NIR"])
def test_another_suffix(tmp_path, name):
    with pytest.raises(psu.InputError, match=r"a NIR file must end in \.nir, got .*" + re.escape(name)):
        psu.export(chain((3,), PSU), tmp_path / name, target="nir")
    assert not any(tmp_path.iterdir())


MODULES = {
    "norse": "norse.torch",
    "snntorch": "snntorch.import_nir",
    "spikingjelly": "spikingjelly.activation_based.nir_exchange",
    "sinabs": "sinabs.nir",
    "rockpool": "rockpool.nn.modules.torch.nir",
}


@pytest.mark.parametrize("simulator", [name for name in MODULES if name != "rockpool"])
def test_a_simulator_that_is_not_installed(file_of, monkeypatch, simulator):
    path = file_of("psu, 7 level(s)", "sinabs" if simulator == "sinabs" else "portable")
    for name in [name for name in sys.modules if name == simulator or name.startswith(f"{simulator}.")]:
        monkeypatch.delitem(sys.modules, name)
    right = importlib.import_module

    def without(name, *rest):
        if name.partition(".")[0] == simulator:
            raise ModuleNotFoundError(f"No module named {simulator!r}", name=simulator)
        return right(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    message = f"^'{simulator}' is not installed; the simulator comes with: pip install \"{simulator}[=>]=[0-9.]+\""
    with pytest.raises(psu.MissingExtraError, match=message):
        psu.load(path, simulator=simulator)


@pytest.mark.skipif(importlib.util.find_spec("rockpool") is not None, reason="rockpool is installed")
def test_a_file_that_cannot_be_checked_is_not_written(tmp_path):
    message = "a file for rockpool can be checked in rockpool alone: .* pip install"
    with pytest.raises(psu.MissingExtraError, match=message):
        psu.export(chain((3,), PSU), tmp_path / "net.nir", target="nir", simulator="rockpool")
    assert not any(tmp_path.iterdir())


def test_sinabs_files_need_sinabs_too(tmp_path, monkeypatch):
    monkeypatch.setitem(nir_export.__globals__, "installed", lambda name: False)
    monkeypatch.setitem(sys.modules, "sinabs", None)
    monkeypatch.setitem(sys.modules, "sinabs.nir", None)
    with pytest.raises(psu.MissingExtraError, match="a file for sinabs can be checked in sinabs alone"):
        psu.export(chain((3,), PSU), tmp_path / "net.nir", target="nir", simulator="sinabs")
    assert not any(tmp_path.iterdir())


# What hand-made machines may hold.


def _dead():
    return graph(("a", linear(4, 3), ("x",)), ("b", PSU, ("a",)), ("c", linear(2, 4), ("b",)), output="b")


def _twice():
    return graph(("a", ops.Add(), ("x", "x")), ("b", PSU, ("a",)))


HELD_SPIKES = graph(("a", PSU, ("x",)), ("held", ops.Hold(), ("a",)), ("b", linear(2, 3), ("held",)))
HELD_INPUT = graph(("held", ops.Hold(), ("x",)), ("b", PSU, ("held",)))
POOLED = graph(
    ("pool", ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0))), ("x",)),
    ("pool_sum", conv2d(2, 2, (1, 1)), ("pool",)),
    ("b", PSU, ("pool_sum",)),
    features=(2, 4, 4),
)


@pytest.mark.parametrize("simulator", ["canonical", "portable"])
@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(_dead(), id="a layer nobody reads"),
        pytest.param(_twice(), id="one input twice"),
        pytest.param(HELD_SPIKES, id="held spikes"),
        pytest.param(HELD_INPUT, id="held input"),
    ],
)
def test_exported_or_refused(tmp_path, machine, simulator):
    with suppress(psu.UnsupportedModelError):
        psu.export(machine, tmp_path / "net.nir", target="nir", simulator=simulator)


@pytest.mark.full
def test_names_that_the_passes_would_give(tmp_path):
    psu.export(POOLED, tmp_path / "net.nir", target="nir", simulator="portable")


@pytest.mark.parametrize("name", ["train", "eval", "to", "parameters", "float", "code"])
def test_names_of_a_torch_module(tmp_path, name):
    psu.export(chain((3,), PSU, linear(2, 3), names=["a", name]), tmp_path / "net.nir", target="nir")


def test_a_reset_of_negative_decay_in_sinabs(tmp_path):
    machine = chain((3,), neuron(LEAK, None, o.StrictLeak(0.7, -0.5)))
    with pytest.raises(psu.UnsupportedModelError, match="decay"):
        psu.export(machine, tmp_path / "net.nir", target="nir", simulator="sinabs")
