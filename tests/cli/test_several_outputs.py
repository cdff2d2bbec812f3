"""A network with several outputs on the command line: an array of its own for each."""

from __future__ import annotations

import json

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from tests.zoo import NEURONS, normal

NODES = (
    Node("late", ops.TimeConv(normal(4, 3, 2), normal(4), 1, lookahead=1), ("x",)),
    Node("spikes", NEURONS["lif"], ("late",)),
    Node("square", ops.Reshape((2, 2)), ("late",)),
    Node("end", ops.Outputs(("file", "a/b")), ("spikes", "square")),
)
X = normal(6, 2, 3).astype(np.float32)


@pytest.fixture
def machine(cli):
    machine = StateMachine(NODES, (3,))
    machine.save("net.psm")
    psu.export(machine, "net.onnx")
    np.save("x.npy", X)
    return machine


@pytest.mark.parametrize("file", ["net.psm", "net.onnx"])
def test_each_is_written_by_its_name(cli, machine, file):
    result = cli("run", file, "--input", "x.npy", "--output", "y.npz")
    assert result.code == 0, result
    assert "wrote y.npz, a/b: (6, 2, 2, 2) float32" in result.err
    followed = np.concatenate([X, np.zeros_like(X[:1])])
    with np.load("y.npz") as written:
        assert written.files == ["file", "a/b"]
        for name, y in machine.run(followed).items():
            np.testing.assert_allclose(written[name], y[1:], atol=1e-5)


@pytest.mark.parametrize("file", ["net.psm", "net.onnx"])
def test_one_array_cannot_hold_them(cli, machine, tmp_path, file):
    cli("run", file, "--input", "x.npy", "--output", "y.npy").failed_with("are written as .npz, got y.npy")
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize(("file", "names"), [("net.psm", ["file", "a/b"]), ("net.onnx", ["y.file", "y.a/b"])])
def test_they_are_shown(cli, machine, file, names):
    found = json.loads(cli("inspect", file, "--json").out)["outputs"]
    assert [(tensor["name"], tuple(tensor["shape"])) for tensor in found] == list(
        zip(names, [(4,), (2, 2)], strict=True)
    )


def test_they_are_verified(cli, machine):
    result = cli("verify", "net.psm", "net.onnx", "--data", "x.npy")
    assert result.code == 0, result
    assert "EQUIVALENT" in result.out


def named(*names):
    return StateMachine((*NODES[:3], Node("end", ops.Outputs(names), ("spikes", "square"))), (3,))


@pytest.mark.parametrize("file", ["net.psm", "net.onnx"])
@pytest.mark.parametrize(
    ("names", "message"), [(("a.npy", "a"), "call one otherwise"), (("a", "b" * 70_000), "more than 60000 bytes")]
)
def test_names_that_no_npz_can_hold(cli, machine, tmp_path, file, names, message):
    """numpy looks for `a.npy` before it looks for `a`, and a zip file counts the letters of a name in 16 bits."""
    named(*names).save("net.psm")
    psu.export(named(*names), "net.onnx")
    cli("run", file, "--input", "x.npy", "--output", "y.npz").failed_with(message)
    assert not (tmp_path / "y.npz").exists()


def test_names_that_look_like_lines_of_ours(cli, machine):
    named("a\nwrote z.npz", "b").save("net.psm")
    result = cli("run", "net.psm", "--input", "x.npy", "--output", "y.npz")
    assert r"wrote y.npz, a\nwrote z.npz: (6, 2, 4) float32" in result.err
    assert r"outputs a\nwrote z.npz (4,), b (2, 2)" in cli("inspect", "net.psm").out
