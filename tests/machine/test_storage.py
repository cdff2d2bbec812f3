"""Machines on disk: the same bits back, or an ArtifactError. Nothing half-written, nothing executed."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import ArtifactError, StateError
from psu_deploy.machine import Node, StateMachine, ops, storage
from psu_deploy.nn.containers import Residual, SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSU, SlidingPSN
from tests.helpers import EVERY_NEURON, NeuronCase, currents
from tests.zoo import NEURONS, OPERATORS


def conv_network() -> StateMachine:
    model = SpikingSequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        PSU(tau=1.5, threshold=0.3),
        Residual(nn.Conv2d(4, 4, 3, padding="same", groups=2), SlidingPSN(3)),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        IPSU(7),
    )
    return to_state_machine(model, (2, 4, 4))


def every_kind() -> StateMachine:
    """Layers with every kind of field. That every kind of op is saved is a test of the zoo."""
    exponentials = ops.Exponentials(np.array([1.0, 1 / 3]), np.array([0.9, 0.1]))
    window = ops.Window(np.array([[0.0, 1 / 3]] * 9), np.arange(9.0), time_invariant=False)
    neuron = ops.SpikingNeuron(exponentials, ops.Identity(), ops.RawCurrent(), window, 1e-17, ">")
    stairs = ops.Staircase(np.array([-1 / 3, 0.1]), 0.7, -0.1)
    layers = [
        ops.SumPool((2,), (1,), ((1, 0),)),
        ops.MaxPool((2,), (1,), ((1, 0),)),
        ops.Conv1d(np.full((2, 2, 2), 0.1), None, (1,), ((0, 1),), (1,), 1),
        ops.ChannelAffine(np.array([1 / 3, -0.0]), np.zeros(2)),
        neuron,
        ops.Delay(2),
        ops.Readout("mean"),
        ops.Flatten(),
        ops.TimeConv(np.full((6, 5, 3), 1 / 3), np.full(6, -0.1), 2, lookahead=2),
        ops.Activation("sigmoid"),
        ops.Hold(),
        ops.LIFNeuron(1 / 0.3, True, 1 / 3, "soft", ">"),
        ops.LIFNeuron(None, False, 0.1, "hard", ">="),
        ops.BernoulliNeuron(ops.Leak(1 / 3, 0.1), 7),
        ops.Filter(ops.Exponentials(np.array([1.0]), np.array([0.7]), -1 / 3)),
        ops.SpikingNeuron(ops.Identity(), None, stairs, ops.StrictLeak(1 / 3, 0.3), 0.1, ">="),
        ops.SpikingNeuron(ops.Identity(), None, ops.SigmoidTable(), ops.StrictLeak(1.0, 0.3), 0.1, ">"),
    ]
    names = ["x", *map(str, range(len(layers)))]
    nodes = [Node(name, layer, (before,)) for before, name, layer in zip(names, names[1:], layers, strict=False)]
    nodes += [Node("product", ops.Multiply(), ("12", "9")), Node("sum", ops.Add(), ("15", "product", "13"))]
    return StateMachine((*nodes, Node("late", ops.Wait(1), ("sum",))), (2, 5), "late")


@pytest.fixture
def machine():
    return to_state_machine(SpikingSequential(nn.Linear(3, 4), IPSU(5), nn.Linear(4, 2)), (3,))


@pytest.fixture
def saved(machine, tmp_path) -> Path:
    return machine.save(tmp_path / "net.psm")


def same(first: StateMachine, second: StateMachine, T: int) -> None:
    assert second.content_hash == first.content_hash
    assert second.nodes[-1].name == first.nodes[-1].name
    assert (second.input_shape, second.output, second.latency) == (first.input_shape, first.output, first.latency)
    assert second.state_spec == first.state_spec
    x = currents(T, 2, first.input_shape)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(first.run(x.astype(dtype)), second.run(x.astype(dtype)))


class TestRoundTrip:
    @pytest.mark.parametrize("make", [conv_network, every_kind])
    def test_networks(self, make, tmp_path):
        machine = make()
        same(machine, StateMachine.load(machine.save(tmp_path / "net.psm")), machine.horizon)

    @pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
    def test_filters(self, operator, tmp_path):
        machine = StateMachine((Node("filter", ops.Filter(operator), ("x",)),), (2, 3))
        again = StateMachine.load(machine.save(tmp_path / "net.psm"))
        same(machine, again, machine.horizon or 6)
        assert type(again.nodes[0].layer.operator) is type(operator)

    def test_staircases(self, tmp_path):
        machine = StateMachine((Node("neuron", NEURONS["staircase of many steps"], ("x",)),), (3,))
        again = StateMachine.load(machine.save(tmp_path / "net.psm"))
        same(machine, again, machine.horizon)
        assert vars(again.nodes[0].layer.estimator).keys() == {"thresholds", "height", "offset"}

    def test_the_bias_of_exponentials_is_part_of_the_hash(self):
        machines = [
            StateMachine((Node("a", ops.Filter(ops.Exponentials([1.0], [0.5], bias)), ("x",)),), (3,))
            for bias in (0.0, 0.25)
        ]
        assert len({machine.content_hash for machine in machines}) == 2

    @pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
    def test_float64_parameters_survive(self, case: NeuronCase, tmp_path):
        machine = to_state_machine(case.make(6, tau=1.5, threshold=0.3)[0], (3,))
        same(machine, StateMachine.load(machine.save(tmp_path / "net.psm")), 6)

    def test_saves_in_new_folders_and_over_old_files(self, machine, tmp_path):
        path = tmp_path / "a" / "b" / "net.psm"
        assert machine.save(path) == path
        every_kind().save(path)
        machine.save(str(path))
        assert StateMachine.load(str(path)).content_hash == machine.content_hash
        assert [p.name for p in path.parent.iterdir()] == ["net.psm"]

    def test_floats_that_fit_are_stored_as_floats(self, tmp_path):
        """A captured float32 network takes 4 bytes per parameter."""
        machine = to_state_machine(nn.Linear(100, 100), (100,))
        assert 40_400 < machine.save(tmp_path / "net.psm").stat().st_size < 42_000


class TestContentHash:
    def test_tells_numbers_apart(self, machine):
        def hash_of(weight, **changes):
            nodes = (Node("a", ops.Linear(weight), ("x",)),)
            return StateMachine(nodes, **({"input_shape": (2,)} | changes)).content_hash

        weight = np.eye(2)
        other = weight + [[0, 0], [0, 1e-16 * 3]]
        assert hash_of(weight) == hash_of(weight.copy())
        assert len({hash_of(weight), hash_of(other)}) == 2

    def test_tells_a_delay_from_waiting(self):
        """The same numbers; only one of them is latency."""
        hashes = {StateMachine((Node("a", kind(1), ("x",)),), (2,)).content_hash for kind in (ops.Delay, ops.Wait)}
        assert len(hashes) == 2

    def test_tells_shapes_apart(self):
        def hash_of(*kernel):
            conv = ops.Conv2d(np.ones((1, 1, *kernel)), None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
            return StateMachine((Node("a", conv, ("x",)),), (1, 5, 5)).content_hash

        assert hash_of(1, 3) != hash_of(3, 1)


@pytest.mark.full
class TestDamage:
    """A file that was cut, changed or is something else."""

    def load(self, tmp_path, content: bytes):
        path = tmp_path / "damaged.psm"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"damaged\.psm") as caught:
            StateMachine.load(path)
        return str(caught.value)

    def test_cut_anywhere(self, saved, tmp_path):
        content = saved.read_bytes()
        for length in range(len(content)):
            self.load(tmp_path, content[:length])

    def test_longer_than_it_should_be(self, saved, tmp_path):
        self.load(tmp_path, saved.read_bytes() + b"\0")

    def test_one_bit_flipped_anywhere_in_the_header(self, saved, tmp_path):
        """An error or, where the bit does not matter, the very same machine. Nothing else."""
        content = saved.read_bytes()
        (header,) = struct.unpack("<Q", content[:8])
        path = tmp_path / "flipped.psm"
        digest = StateMachine.load(saved).content_hash
        for position in range(8 + header):
            flipped = bytearray(content)
            flipped[position] ^= 1 << (position * 7 % 8)
            path.write_bytes(flipped)
            try:
                machine = StateMachine.load(path)
            except ArtifactError:
                continue
            assert machine.content_hash == digest

    def test_one_bit_flipped_in_a_weight(self, saved, tmp_path):
        content = bytearray(saved.read_bytes())
        content[-3] ^= 64
        self.load(tmp_path, bytes(content))

    @pytest.mark.parametrize(
        "content",
        [b"", b"{}", b"hello, this is a text file\n" * 50, pickle.dumps({"weight": [1.0]}), bytes(1000), b"\xff" * 100],
        ids=["empty", "short", "text", "pickle", "zeros", "ones"],
    )
    def test_another_kind_of_file(self, tmp_path, content):
        assert "is not a psu-deploy machine" in self.load(tmp_path, content)

    def test_other_safetensors(self, tmp_path):
        save_file({"weight": np.zeros(3)}, tmp_path / "other.psm")
        with pytest.raises(ArtifactError, match="is a safetensors file but not a psu-deploy machine"):
            StateMachine.load(tmp_path / "other.psm")

    def test_a_pickle_is_not_executed(self, tmp_path):
        trap = tmp_path / "trap"
        for content in (pickle.dumps(_Trap(trap)), _zipped(tmp_path, trap)):
            self.load(tmp_path, content)
            assert not trap.exists()

    @pytest.mark.parametrize("missing", ["nowhere.psm", "."])
    def test_no_file(self, tmp_path, missing):
        with pytest.raises(ArtifactError, match="does not exist or is not a file"):
            StateMachine.load(tmp_path / missing)

    def test_later_version(self, saved, tmp_path):
        content = rewritten(saved, lambda metadata: metadata | {"version": "999"})
        assert "machine format version '999'; this release reads" in self.load(tmp_path, content)


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _zipped(tmp_path, trap) -> bytes:
    torch.save(_Trap(trap), tmp_path / "zip")
    return (tmp_path / "zip").read_bytes()


def rewritten(path: Path, change) -> bytes:
    """The file with other metadata."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = change(header["__metadata__"])
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]


def places(value, path=()):
    """Path of every value in nested JSON."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


REMOVED = object()
WRONG = [
    *(REMOVED, None, True, 5, -1, 0, 1.5, 10**30, 1e308, "x", "é\0", [], {}, ["x"], ["x", "x"], [[1, 2], [3]]),
    *({"type": "nope"}, {"type": ["Leak"]}, {"type": "__class__"}, {"type": "Sigmoid"}, {"tensor": "nope"}),
    *({"tensor": ["x"]}, {"tensor": "0.weight"}, {"type": "Linear", "weight": [[1.0] * 3], "bias": None}),
]


class TestMalformedGraph:
    """A good safetensors file whose JSON is wrong, made by somebody who can compute the right hash."""

    @pytest.fixture(autouse=True)
    def _any_hash_is_right(self, monkeypatch):
        monkeypatch.setattr(storage, "content_hash", lambda graph: "right")

    def load(self, saved, tmp_path, graph) -> StateMachine:
        text = graph if isinstance(graph, str) else json.dumps(graph)
        path = tmp_path / "malformed.psm"
        path.write_bytes(rewritten(saved, lambda metadata: metadata | {"machine": text}))
        return StateMachine.load(path)

    def graph(self, saved):
        content = saved.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["machine"])

    @pytest.mark.parametrize(
        "text",
        [
            *("", "[", "[]", "{}", "null", "5", '"x"', "NaN", "Infinity", "{'nodes': []}", '{"nodes": 1}'),
            "[" * 100_000 + "]" * 100_000,
            '{"nodes":' * 50_000 + "1" + "}" * 50_000,
            '{"input_shape": [' + "9" * 5000 + '], "nodes": []}',
            '{"input_shape": [1e999], "nodes": [], "output": "", "latency": 0}',
        ],
        ids=lambda text: text[:20],
    )
    def test_other_json(self, saved, tmp_path, text):
        with pytest.raises(ArtifactError, match="malformed"):
            self.load(saved, tmp_path, text)

    def test_nested_deeper_than_python_can_follow(self, saved, tmp_path):
        graph = self.graph(saved)
        layer = {"type": "Sigmoid"}
        for _ in range(400):
            layer = {"type": "SpikingNeuron", "integrate": layer}
        graph["nodes"][0]["layer"] = layer
        with pytest.raises(ArtifactError, match="malformed"):
            self.load(saved, tmp_path, graph)

    @pytest.mark.full
    def test_any_value_replaced(self, saved, tmp_path):
        """Every value in turn becomes every wrong value: an ArtifactError, or a machine that can be used."""
        self.load(saved, tmp_path, self.graph(saved))
        refused = 0
        for place in places(self.graph(saved)):
            for wrong in WRONG:
                graph = copy.deepcopy(self.graph(saved))
                owner = graph
                for key in place[:-1]:
                    owner = owner[key]
                if wrong is REMOVED:
                    del owner[place[-1]]
                else:
                    owner[place[-1]] = wrong
                try:
                    machine = self.load(saved, tmp_path, graph)
                except ArtifactError:
                    refused += 1
                else:
                    too_large = wrong in (10**30, 1e308)  # for float32: the answer may overflow, and says so
                    with contextlib.suppress(StateError) if too_large else contextlib.nullcontext():
                        machine.run(np.zeros((1, 1, *machine.input_shape), np.float32))
                    machine.summary()
        assert refused > 500

    @pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
    def test_numbers_that_numpy_does_not_know(self, saved, tmp_path, dtype):
        from safetensors import safe_open
        from safetensors.torch import save_file as save_torch

        with safe_open(saved, framework="torch") as file:
            tensors = {key: file.get_tensor(key).to(getattr(torch, dtype)) for key in file.keys()}  # noqa: SIM118
            save_torch(tensors, tmp_path / "strange.psm", file.metadata())
        with pytest.raises(ArtifactError, match=r"strange\.psm"):
            StateMachine.load(tmp_path / "strange.psm")


class TestWritingFails:
    """An ArtifactError that names the file, the old file untouched, no temporary file left."""

    def refuse(self, machine, path, message):
        with pytest.raises(ArtifactError, match=message):
            machine.save(path)

    def test_onto_a_folder(self, machine, tmp_path):
        self.refuse(machine, tmp_path, "it is a folder; name a file in it")
        assert list(tmp_path.iterdir()) == []

    def test_below_a_file(self, machine, tmp_path):
        (tmp_path / "file").write_text("")
        self.refuse(machine, tmp_path / "file" / "net.psm", "cannot write .*net.psm")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_where_nobody_can_write(self, machine):
        self.refuse(machine, "/proc/nowhere/net.psm", "cannot write /proc/nowhere/net.psm")

    def test_name_too_long(self, machine, tmp_path):
        self.refuse(machine, tmp_path / ("n" * 300), "cannot write")
        assert list(tmp_path.iterdir()) == []

    def test_disk_full(self, tmp_path):
        machine = to_state_machine(nn.Linear(300, 300), (300,))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            self.refuse(machine, tmp_path / "net.psm", "cannot write .*net.psm: File too large; nothing was written")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(28, "No space left on device")])
    def test_interrupted(self, machine, saved, monkeypatch, error):
        before = saved.read_bytes()

        whole = Path.write_bytes

        def half_a_file(path, content):
            whole(path, content[: len(content) // 2])
            raise error

        monkeypatch.setattr(Path, "write_bytes", half_a_file)
        with pytest.raises(ArtifactError if isinstance(error, OSError) else error):
            every_kind().save(saved)
        assert [p.name for p in saved.parent.iterdir()] == [saved.name]
        assert saved.read_bytes() == before
