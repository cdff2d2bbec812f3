"""psu-deploy import: from a published checkpoint to a verified ONNX file, by command."""

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.importers import official
from tests.importers.published import NETWORKS, SeCifarNet, SHDNet

SIZES = {"cifar_convnet": ["--size", 16]}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.full
def test_the_whole_road(name, cli, tmp_path):
    network = NETWORKS[name]("rpsu", 4).make()
    network.save(tmp_path / "model_best.pth.tar")
    result = cli("import", "model_best.pth.tar", "--out", "model.psm", *SIZES.get(name, []))
    assert result.code == 0, result
    assert "total" in result.out
    assert "next: psu-deploy export model.psm --to onnx --out out/" in result.err
    assert cli("export", "model.psm", "--to", "onnx", "--out", "out").code == 0
    result = cli("verify", "model.psm", "out/model.onnx")
    assert result.code == 0, result
    assert "EQUIVALENT" in result.out
    machine = psu.StateMachine.load("model.psm")
    assert machine.input_shape == network.features


@pytest.mark.full
def test_run_waits_for_the_last_answer(cli, tmp_path):
    """Two steps of look-ahead: rows belong together all the same, and the last one is the module's answer."""
    SHDNet("rpsu", 5).make().save(tmp_path / "m.pth.tar")
    assert cli("import", "m.pth.tar", "--out", "m.psm").code == 0
    result = cli("export", "m.psm", "--out", "m.onnx")
    assert "5 steps" in result.out
    assert "2 steps" in result.out
    x = np.random.default_rng(0).normal(0.5, 1.0, (5, 3, 11)).astype(np.float32)
    np.save("x.npy", x)
    expected = official.load("m.pth.tar")(torch.from_numpy(x)).detach().numpy()
    for file in ("m.psm", "m.onnx"):
        assert cli("run", file, "--input", "x.npy", "--output", "y.npy").code == 0
        y = np.load("y.npy")
        assert len(y) == 5
        np.testing.assert_allclose(y[-1], expected, rtol=0, atol=1e-4)
    np.save("x.npy", np.zeros((6, 3, 11), np.float32))
    cli("run", "m.onnx", "--input", "x.npy", "--output", "y.npy").failed_with("x has 6 steps")


@pytest.mark.full
def test_what_the_file_cannot_tell(cli, tmp_path):
    SeCifarNet("ppsu", 4).make().save(tmp_path / "m.pth.tar", node_type=None)
    cli("import", "m.pth.tar", "--out", "m.psm").failed_with("the args.yaml beside it, and add --neuron ")
    assert not (tmp_path / "m.psm").exists()
    assert cli("import", "m.pth.tar", "--neuron", "ppsu", "--out", "m.psm").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("m.pth.tar", "--out", "m.onnx"), "a state machine is written as .psm, got m.onnx"),
        (("missing.pth", "--out", "m.psm"), "missing.pth does not exist or is not a file"),
        (("m.pth.tar", "--neuron", "gru", "--out", "m.psm"), "neuron must be one of psu, ipsu"),
        (("m.pth.tar", "--ema", "--out", "m.psm"), "has no 'state_dict_ema'"),
    ],
)
def test_refusals(arguments, said, cli, tmp_path):
    SeCifarNet("psu", 4).make().save(tmp_path / "m.pth.tar")
    cli("import", *arguments).failed_with(said)
    assert not (tmp_path / "m.psm").exists()
