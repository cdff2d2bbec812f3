"""What an export writes over is said: a file is never lost without a word."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import psu_deploy as psu

NOTE = "was there and is replaced"


@pytest.fixture
def lif(tmp_path):
    """A saved machine that NIR can express."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(4, 8), psu.LIF(2.0), nn.Linear(8, 3))
    return psu.to_state_machine(model, (4,)).save(tmp_path / "lif.psm")


def test_another_network(cli, saved, exported):
    before = psu.load(exported).artifact.machine_hash
    other = psu.SpikingSequential(nn.Linear(4, 2), psu.PSU())
    psu.to_state_machine(other, (4,)).save("other.psm")
    said = cli("export", "other.psm", "--out", exported).err
    assert f"note: {exported} {NOTE}: it was of machine {before[:12]}, faithful, for onnx\n" in said
    assert psu.load(exported).artifact.machine_hash != before


def test_nothing_is_said_where_nothing_is_lost(cli, saved):
    first, again = (cli("export", saved, "--out", "net.onnx") for _ in range(2))
    assert (first.code, again.code) == (0, 0)
    assert NOTE not in first.err + again.err


@pytest.mark.full
def test_other_options(cli, lif):
    """The same network, written for another reader."""
    cli("export", lif, "--to", "nir", "--simulator", "portable", "--out", "model.nir")
    said = cli("export", lif, "--to", "nir", "--out", "model.nir").err
    assert f"note: model.nir {NOTE}: it was of machine" in said
    assert "faithful, for the portable set (norse, snntorch, SpikingJelly)\n" in said


@pytest.mark.full
def test_what_tuning_wrote_can_be_had_again(cli, lif, tmp_path):
    (tmp_path / "tune.json").write_text("{}")
    for name, can in (("model.nir", True), ("other.nir", False)):
        cli("export", lif, "--to", "nir", "--simulator", "portable", "--out", name)
        said = cli("export", lif, "--to", "nir", "--out", name).err
        assert NOTE in said
        assert ("; psu-deploy tune writes its own again with --resume\n" in said) == can


def test_a_file_of_somebody_else(cli, saved, tmp_path):
    (tmp_path / "net.onnx").write_text("mine")
    assert f"note: net.onnx {NOTE}: it was none that could be opened\n" in cli("export", saved, "--out", "net.onnx").err


def test_an_export_that_fails_replaces_nothing(cli, saved, exported, tmp_path):
    before = exported.read_bytes()
    result = cli("export", saved, "--to", "onnx", "--out", exported, "--simulator", "norse")
    assert result.code == 2
    assert NOTE not in result.err
    assert exported.read_bytes() == before


def test_tuning_says_so_too(cli, exported, tmp_path, monkeypatch):
    exported.rename(tmp_path / "model.nir")
    result = SimpleNamespace(
        report=SimpleNamespace(ok=False),
        **dict.fromkeys(("original_accuracy", "prepared_accuracy", "prepared_flips"), 0.0),
        **dict.fromkeys(("tuned_accuracy", "tuned_flips"), 0.0),
    )

    def tune(source, target, out, **_):
        (out / "model.nir").write_text(f"{source.name} for {target}")
        return result

    monkeypatch.setattr("psu_deploy.training.tuning.tune", tune)
    said = cli("tune", "net.psm", "--for", "nir", "--out", tmp_path, "--resume").err
    assert f"note: {tmp_path / 'model.nir'} {NOTE}: it was none that could be opened" in said
