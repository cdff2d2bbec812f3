"""A published checkpoint, imported, computes what the published equations say: module, machine, onnxruntime."""

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import ArtifactError
from psu_deploy.importers import official
from psu_deploy.importers.networks import input_shape
from psu_deploy.models import VGGSNN, CIFARNet, SequentialCIFARNet, SHDNet
from tests.importers.published import NETWORKS, NODE_TYPES, VGGPSN, FCNet, PlainSHDNet, SeCifarNet

OURS = {"SeCifarNet": SequentialCIFARNet, "VGG_SNN": VGGSNN, "cifar_convnet": CIFARNet, "SHD_SNN": SHDNet}


def sequence(network, batch=3, seed=5):
    x = torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1.0, (network.T, batch, *network.features)))
    static = type(network).__name__ == "CifarConvNet"
    return x[:1].expand_as(x).contiguous() if static else x


def check(network, path, tmp_path, neuron=None):
    """Spikes of every layer exactly, logits within rounding, in float64; then all three forms in float32."""
    model = official.load(path, neuron)
    assert not model.training
    x = sequence(network)
    logits, expected = network.run(x)
    assert all(0.01 < rows.mean() < 0.99 for rows in expected.values()), "a layer that never or always fires"
    machine = psu.to_state_machine(model.double(), tuple(x.shape[2:]))
    torch.testing.assert_close(model(x), logits, rtol=0, atol=1e-9)
    late = torch.cat([x, torch.zeros(machine.latency, *x.shape[1:], dtype=x.dtype)])
    trace = machine.trace(late)
    for ours, theirs in zip(machine.spiking, expected, strict=True):
        assert torch.equal(trace.spikes[ours][machine.latencies[ours] :], expected[theirs]), theirs
    torch.testing.assert_close(trace.output[-1], logits, rtol=0, atol=1e-9)
    report = psu.verify(model.float(), psu.export(machine, tmp_path / "net.onnx"), x.float())
    assert report.ok, report
    return machine


@pytest.mark.rows(2)
@pytest.mark.full
@pytest.mark.parametrize("kind", NODE_TYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_four_networks(name, kind, tmp_path):
    network = NETWORKS[name](kind, T=5).make()
    network.save(tmp_path / "model_best.pth.tar")
    machine = check(network, tmp_path / "model_best.pth.tar", tmp_path)
    assert isinstance(official.load(tmp_path / "model_best.pth.tar"), OURS[name])
    assert machine.latency == (2 if name == "SHD_SNN" else 0)
    steps = None if kind == "psu" else 5 + machine.latency
    assert machine.horizon == steps


@pytest.mark.rows(2)
@pytest.mark.full
@pytest.mark.parametrize("kind", NODE_TYPES)
@pytest.mark.parametrize(("tau", "threshold", "T"), [(1.5, 0.3, 4), (4.0, 0.5, 32), (3.0, 1.0, 1)])
def test_other_time_constants_thresholds_and_lengths(kind, tau, threshold, T, tmp_path):
    network = SeCifarNet(kind, T, tau, threshold).make(channels=4)
    network.save(tmp_path / "m.pth.tar")
    check(network, tmp_path / "m.pth.tar", tmp_path)


@pytest.mark.full
def test_without_the_attention(tmp_path):
    network = PlainSHDNet("rpsu", 6).make()
    network.save(tmp_path / "m.pth.tar")
    assert check(network, tmp_path / "m.pth.tar", tmp_path).latency == 0


@pytest.mark.full
@pytest.mark.parametrize("kind", NODE_TYPES)
def test_the_small_network_without_batch_norm(kind, tmp_path):
    network = FCNet(kind, 6).make()
    network.save(tmp_path / "m.pth.tar")
    check(network, tmp_path / "m.pth.tar", tmp_path)


@pytest.mark.full
def test_the_network_of_the_psn_authors(tmp_path):
    network = VGGPSN("psu", 6).make()
    torch.save(
        {"model": network.state, "optimizer": {}, "scheduler": {}, "epoch": 9, "best_acc": 0.8}, tmp_path / "m.pth"
    )
    assert check(network, tmp_path / "m.pth", tmp_path).horizon is None


@pytest.mark.rows(2)
@pytest.mark.full
@pytest.mark.parametrize("wrapper", ["state_dict", "state_dict_ema", "net", "model"])
def test_every_wrapper(wrapper, tmp_path):
    network = SeCifarNet("rpsu", 4).make()
    network.save(tmp_path / "m.pth", wrapper=wrapper)
    check(network, tmp_path / "m.pth", tmp_path)


def test_the_moving_average_is_taken_only_if_asked_for(tmp_path):
    weights, average = SeCifarNet("rpsu", 4).make(), SeCifarNet("rpsu", 4, seed=1).make()
    torch.save({"state_dict": weights.state, "state_dict_ema": average.state}, tmp_path / "m.pth")
    plain, averaged = (official.load(tmp_path / "m.pth", ema=ema) for ema in (False, True))
    assert torch.equal(plain.fc[3].weight, weights.state["fc.3.weight"])
    assert torch.equal(averaged.fc[3].weight, average.state["fc.3.weight"])


@pytest.mark.full
def test_a_data_parallel_prefix(tmp_path):
    network = SeCifarNet("ppsu", 4).make()
    torch.save({f"module.{key}": value for key, value in network.state.items()}, tmp_path / "m.pth")
    check(network, tmp_path / "m.pth", tmp_path, neuron="ppsu")


def wrapped(key, wrapper):
    """As DDP, torch.compile and Lightning save it; a compiled part of a network has its mark in the middle."""
    first, _, rest = key.partition(".")
    return {"part": f"{first}._orig_mod.{rest}"}.get(wrapper, f"{wrapper}{key}")


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.module.", "part"])
def test_the_marks_of_wrappers(wrapper, tmp_path):
    network = SeCifarNet("ppsu", 4).make()
    torch.save({wrapped(key, wrapper): value for key, value in network.state.items()}, tmp_path / "m.pth")
    network.save(tmp_path / "plain.pth")
    ours, plain = (official.load(tmp_path / name, "ppsu").state_dict() for name in ("m.pth", "plain.pth"))
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[key], plain[key]) for key in plain)


def test_a_parameter_that_is_there_twice(tmp_path):
    network = SeCifarNet("ppsu", 4).make()
    key, value = next(iter(network.state.items()))
    torch.save({**network.state, f"module.{key}": value + 1}, tmp_path / "m.pth")
    with pytest.raises(ArtifactError, match="has the same parameter twice"):
        official.load(tmp_path / "m.pth", "ppsu")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_that_was_saved_on_a_gpu(old_format, tmp_path, monkeypatch):
    network = SeCifarNet("ppsu", 4).make()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(network.state, tmp_path / "m.pth", _use_new_zipfile_serialization=not old_format)
    assert b"cuda:0" in (tmp_path / "m.pth").read_bytes()
    model = official.load(tmp_path / "m.pth", "ppsu")
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    assert torch.equal(model.fc[3].weight, network.state["fc.3.weight"])


@pytest.mark.full
def test_what_the_file_cannot_tell_can_be_said(tmp_path):
    network = SeCifarNet("ipsu", 4).make()
    network.save(tmp_path / "m.pth", node_type=None)
    check(network, tmp_path / "m.pth", tmp_path, neuron="IPSU")


@pytest.mark.full
def test_rpsu_is_known_by_its_last_bias(tmp_path):
    network = SeCifarNet("rpsu", 4).make()
    torch.save(network.state, tmp_path / "m.pth")
    check(network, tmp_path / "m.pth", tmp_path)


@pytest.mark.parametrize("act_fun", ["AtanGrad", "QGateGrad", "SigmoidGrad", "ReLUGrad"])
def test_whether_a_tie_fires_is_that_of_the_surrogate(act_fun, tmp_path):
    network = SeCifarNet("psu", 4).make()
    network.save(tmp_path / "m.pth", act_fun=act_fun)
    assert official.load(tmp_path / "m.pth").fc[2].fire_on == (">" if act_fun in ("AtanGrad", "QGateGrad") else ">=")


SIZES = {
    "SHD_SNN": (lambda n: n.make(700, 1024, 20), 34, 3_756_702, (700,)),
    "SeCifarNet": (lambda n: n.make(128, 32, 10, 256), 89, 520_817, (3, 32)),
    "VGG_SNN": (lambda n: n.make((64, 128, 256, 256, 512, 512, 512, 512), 48, 10), 106, 9_269_634, (2, 48, 48)),
    "cifar_convnet": (
        lambda n: n.make((256, 256, 256, 256, 512, 512, 1024, 1024), 32, 10),
        106,
        19_489_714,
        (3, 32, 32),
    ),
}
"""Network -> how large the published one is: keys, and trainable numbers at IPSU and T = 15, 32, 10, 4."""


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_sizes(name, tmp_path):
    make, keys, numbers, features = SIZES[name]
    T = {"SHD_SNN": 15, "SeCifarNet": 32, "VGG_SNN": 10, "cifar_convnet": 4}[name]
    network = make(NETWORKS[name]("ipsu", T))
    buffers = ("running_mean", "running_var", "num_batches_tracked", ".threshold", ".m1", ".m2", ".mask0")
    assert len(network.state) == keys
    assert sum(v.numel() for k, v in network.state.items() if not k.endswith(buffers)) == numbers
    network.save(tmp_path / "m.pth.tar")
    model = official.load(tmp_path / "m.pth.tar")
    assert input_shape(model) == features
