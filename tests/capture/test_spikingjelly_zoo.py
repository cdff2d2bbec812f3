"""The networks of SpikingJelly's own zoo, as they are: their own spikes, the machine's and the artifact's."""

from __future__ import annotations

import sys
from argparse import Namespace
from types import ModuleType

import pytest
import torch

import psu_deploy as psu
from tests.capture.jelly import (
    check_everywhere,
    check_machine,
    functional,
    layer,
    neuron,
    spikingjelly,
    trained,
)

LIF = {"spiking_neuron": neuron.LIFNode, "tau": 2.0, "detach_reset": True}
PLIF = {"spiking_neuron": neuron.ParametricLIFNode, "init_tau": 2.0, "decay_input": False, "detach_reset": True}
SMALL = {"num_classes": 5, "embed_dims": 32, "depths": (1, 1, 1)}
TINY, RGB, EVENTS = (3, 16, 16), (3, 32, 32), (2, 128, 128)


@pytest.fixture(autouse=True)
def torchvision(monkeypatch):
    """Of torchvision some of its networks use a download only, which nobody calls here."""
    download = ModuleType("torchvision._internally_replaced_utils")
    download.load_state_dict_from_url = None
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, download.__name__, download)


def model(room, name, *args, **options):
    """A network of the zoo in multi-step mode."""
    net = getattr(spikingjelly(f"model.{room}"), name)(*args, **options)
    functional.set_step_mode(net, "m")
    return net


def spike_dhs():
    args = Namespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3, fea_filter_multiplier=48)
    return model("spike_dhs", "SpikeDHS", 3, args)


def snas_net(celltype="forward"):
    """One way from input to output through every kind of cell; a cell is its upper triangle."""
    args = Namespace(timestep=3, second_avgpooling=2, dataset="cifar100", celltype=celltype, threshold=1.0, tau=4 / 3)
    cell = torch.tensor([[0, 2, 3, 4], [0, 0, 1, 3], [0, 0, 0, 2], [0, 0, 0, 0]])
    return spikingjelly("model.snas_net").SNASNet(args, cell)


def online(name):
    """A network that is trained online, one step at a time, and run over a sequence."""
    return layer.MultiStepContainer(getattr(spikingjelly("model.spiking_vggws_ottt"), name)(num_classes=5))


def spikformer(name="Spikformer", **options):
    return model("spikformer", name, num_classes=5, **options)


SIZES = {"img_size_h": 32, "img_size_w": 32}

CI = {
    "Spikformer": (lambda: spikformer(**SIZES, patch_size=4, embed_dims=32, num_heads=4, depths=1), TINY),
    "QKFormer": (lambda: model("qkformer", "QKFormer", **SMALL, num_heads=(2, 2, 2)), TINY),
    "SpikeDrivenTransformer": (
        lambda: model("spike_driven_transformer", "SpikeDrivenTransformer", **SMALL | {"depths": 1, "num_heads": 4}),
        TINY,
    ),
    "MSResNet": (lambda: model("ms_resnet", "MSResNet", num_classes=5, base_channels=8, layers=(1, 1, 1, 1)), TINY),
}
"""Name -> network, features of its input: small ones."""

NIGHTLY = {
    "spikformer_cifar10": (lambda: spikformer("spikformer_cifar10"), RGB),
    "spikformer_ti": (lambda: spikformer("spikformer_ti", **SIZES), RGB),
    "spikformer_s": (lambda: spikformer("spikformer_s", **SIZES), RGB),
    "QKFormer of channels": (
        lambda: model("qkformer", "QKFormer", **SMALL, num_heads=(2, 2, 2), qka_type="channel"),
        RGB,
    ),
    "qkformer_10_384": (lambda: model("qkformer", "qkformer_10_384", num_classes=5), RGB),
    "sdt_8_384": (lambda: model("spike_driven_transformer", "sdt_8_384", num_classes=5), RGB),
    "maxformer_10_384": (lambda: model("maxformer", "maxformer_10_384", num_classes=5), RGB),
    "maxformer_cifar": (lambda: model("maxformer", "maxformer_cifar", num_classes=5), RGB),
    "ms_resnet18": (lambda: model("ms_resnet", "ms_resnet18", num_classes=5), RGB),
    "ms_resnet34": (lambda: model("ms_resnet", "ms_resnet34", num_classes=5), RGB),
    "max_resnet18": (lambda: model("ms_resnet", "max_resnet18", num_classes=5), RGB),
    **{
        f"sew_resnet18 {cnf}": (lambda cnf=cnf: model("sew_resnet", "sew_resnet18", cnf=cnf, num_classes=5, **LIF), RGB)
        for cnf in ("ADD", "AND", "IAND")
    },
    "spiking_resnet18": (lambda: model("spiking_resnet", "spiking_resnet18", num_classes=5, **LIF), RGB),
    "spiking_vgg11": (lambda: model("spiking_vgg", "spiking_vgg11", num_classes=5, **LIF), RGB),
    "spiking_vgg11_bn": (lambda: model("spiking_vgg", "spiking_vgg11_bn", num_classes=5, **LIF), RGB),
    "MNISTNet": (lambda: model("parametric_lif_net", "MNISTNet", 4, **PLIF), (1, 28, 28)),
    "FashionMNISTNet": (lambda: model("parametric_lif_net", "FashionMNISTNet", 4, **PLIF), (1, 28, 28)),
    "NMNISTNet": (lambda: model("parametric_lif_net", "NMNISTNet", 4, **PLIF), (2, 34, 34)),
    "CIFAR10Net": (lambda: model("parametric_lif_net", "CIFAR10Net", 4, **PLIF), RGB),
    "CIFAR10DVSNet": (lambda: model("parametric_lif_net", "CIFAR10DVSNet", 2, **PLIF), EVENTS),
    "DVSGestureNet": (lambda: model("parametric_lif_net", "DVSGestureNet", 2, **PLIF), EVENTS),
    "ottt_spiking_vggws": (lambda: online("ottt_spiking_vggws"), RGB),
    "ottt_spiking_vgg11": (lambda: online("ottt_spiking_vgg11"), RGB),
    "ottt_spiking_vgg11_ws": (lambda: online("ottt_spiking_vgg11_ws"), RGB),
}

PICTURES = {"SpikeDHS": (spike_dhs, (3, 16, 16), 6), "SNASNet": (snas_net, RGB, 3)}
"""Name -> network that is given a picture, features, and the steps it shows it for."""


NOT_PROVEN = ("ms_resnet18", "ms_resnet34", "max_resnet18")
"""Their shortcuts carry real numbers past all neurons, from layer to layer of weights: the bounds grow with each."""


def check(build, features, T, folder, **options):
    torch.manual_seed(0)
    net = trained(build())
    spikes = check_machine(net, features, T, picture=options.get("picture", False))
    assert any(0 < emitted.mean() < 1 for emitted in spikes.values())
    check_everywhere(net, features, T, folder, flips=20, **options)


@pytest.mark.rows(1)
@pytest.mark.full
@pytest.mark.parametrize("name", CI)
def test_small_networks_of_the_zoo(name, tmp_path):
    check(*CI[name], 4, tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NIGHTLY)
def test_networks_of_the_zoo(name, tmp_path):
    check(*NIGHTLY[name], 3, tmp_path, proven=name not in NOT_PROVEN)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PICTURES)
def test_networks_of_the_zoo_that_are_given_a_picture(name, tmp_path):
    check(*PICTURES[name], tmp_path, picture=True)


def refused(net, features):
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, features)
    return caught.value.problems


ATTENTION = {
    "MASNN": lambda: model("masnn", "masnn_dvs128_gesture", T=6),
    "AttMSResNet": lambda: model("masnn", "AttMSResNet", T=4, base_channels=8, layers=(1, 1, 1, 1)),
}


@pytest.mark.full
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_over_time_is_refused_by_its_name(name):
    """Even without its temporal part: the channels and the places are scored by means over all steps."""
    problems = refused(ATTENTION[name](), (2 if name == "MASNN" else 3, 32, 32))
    assert {problem.kind for problem in problems} <= {"MultiDimensionalAttention", "TemporalWiseAttention"}
    assert {problem.reason for problem in problems} == {
        "attends over time: the weight of a step is computed from all steps, later ones too"
    }


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_cell_that_reads_what_it_gave_a_step_ago_is_refused():
    problems = refused(snas_net("backward"), RGB)
    assert any("sees step 0 as call 2" in problem.reason for problem in problems)
