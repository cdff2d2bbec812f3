"""The networks a checkpoint may hold: how to recognise one, where its neurons are, how to build ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt

from torch import Tensor, nn

from psu_deploy.errors import ArtifactError, InputError, Problem, UnsupportedModelError
from psu_deploy.importers.checkpoint import Checkpoint
from psu_deploy.models import VGGSNN, CIFARNet, SequentialCIFARNet, SHDNet
from psu_deploy.models.neurons import NeuronMaker

Tensors = Mapping[str, Tensor]

_PAIRS = (0, 1, 3, 4, 6, 7, 9, 10)
"""Indices of the convolutions of the two-dimensional networks; the others are poolings."""

_FLAT = (0, 2, 5, 7, 10, 12, 15, 17)
"""The same where every neuron layer has an index of its own, one behind that of its convolution."""

_SIX = (0, 3, 6, 10, 13, 16)
"""Indices of the convolutions of the sequential network."""


@dataclass(frozen=True)
class Network:
    """One network of the published code.

    Args:
        name: of its class there.
        sign: a key that only this network has.
        neurons: paths of the neuron layers, in network order.
        build: (tensors, neuron maker) -> our network of that size.
        rename: (pattern, replacement) pairs that turn a key of theirs into ours.
    """

    name: str
    sign: str
    neurons: tuple[str, ...]
    build: Callable[[Tensors, NeuronMaker], nn.Module]
    rename: tuple[tuple[str, str], ...] = ()

    def ours(self, key: str) -> str:
        """Our name of a parameter of theirs."""
        for pattern, replacement in self.rename:
            key, found = re.subn(pattern, replacement, key)
            if found:
                return key
        return key


def recognise(checkpoint: Checkpoint) -> Network:
    """The network whose parameters these are.

    Raises:
        UnsupportedModelError: if it is one that cannot be imported.
        ArtifactError: if it is none we know.
    """
    keys = checkpoint.tensors.keys()
    problems = _problems(checkpoint)
    if problems:
        raise UnsupportedModelError(problems, f"import {checkpoint.path}")
    for network in NETWORKS:
        if network.sign in keys:
            return network
    known = ", ".join(network.name for network in NETWORKS)
    raise ArtifactError(
        f"{checkpoint.path} holds none of the networks {known}; its keys begin with: {', '.join(sorted(keys)[:6])}. "
        "Build the network with psu_deploy and load its parts, or import one of those"
    )


def _problems(checkpoint: Checkpoint) -> list[Problem]:
    """What is known to have no serial form, or none that is right."""
    found = []
    tensors, arch = checkpoint.tensors, str(checkpoint.args.get("model", ""))
    if "resnet" in arch.lower() or any(re.match(r"(.*\.)?layer\d\.", key) for key in tensors):
        found.append(_resnet(checkpoint))
    for key, value in tensors.items():
        if key.rpartition(".")[2] == "p" and value.ndim >= 4:
            reason = f"scales each of {len(value)} time steps differently"
            found.append(Problem(key.rpartition(".")[0], "TEBN", reason, "train with BatchNorm"))
    if "conv.16.weight" in tensors and tensors["conv.16.weight"].ndim == 4:
        reason = "its PSN neurons look ahead, so there is no serial form"
        found.append(Problem("(network)", "CIFAR10Net", reason, "train CIFARNet with MaskedPSN or SlidingPSN"))
    return found


def _resnet(checkpoint: Checkpoint) -> Problem:
    sizes = sorted({len(v) for k, v in checkpoint.tensors.items() if k.endswith((".m1", ".fc.weight")) and _square(v)})
    steps = checkpoint.args.get("step")
    found = f"; here they are for {sizes} steps and the script was called with T = {steps}" if sizes else ""
    reason = f"its neurons ignore -T and always have 8 steps, so other T mix the samples of a batch{found}"
    return Problem("(network)", "ResNet18", reason, "train psu_deploy.models.ResNet18, whose steps are its own")


def _square(value: Tensor) -> bool:
    return value.ndim == 2 and value.shape[0] == value.shape[1] and len(value) <= 64


def _sequential_cifar(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    channels, image_channels, _ = tensors["conv.0.weight"].shape
    hidden, flat = tensors["fc.1.weight"].shape
    return SequentialCIFARNet(
        make,
        channels=channels,
        image_channels=image_channels,
        height=4 * (flat // channels),
        hidden=hidden,
        classes=len(tensors["fc.3.weight"]),
    )


def _vgg(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    widths = _widths(tensors)
    classes, flat = tensors["fc.1.weight"].shape
    side = isqrt(flat // widths[-1])
    channels = tensors["feature.0.conv.weight"].shape[1]
    return VGGSNN(make, widths=widths, frame_channels=channels, size=16 * side, classes=classes)


def _cifar(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    channels = tensors["feature.0.conv.weight"].shape[1]
    return CIFARNet(make, widths=_widths(tensors), image_channels=channels, classes=len(tensors["fc.0.fc.weight"]))


def _shd(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    hidden = (len(tensors["fc.0.weight"]), len(tensors["fc.4.weight"]))
    attention = any(key.startswith("ts_conv.") for key in tensors)
    inputs, classes = tensors["fc.0.weight"].shape[1], len(tensors["fc.8.weight"])
    return SHDNet(make, inputs=inputs, hidden=hidden, classes=classes, attention=attention)


def _plain(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    hidden = tuple(len(tensors[f"fc.{index}.weight"]) for index in (0, 2, 4))
    inputs, classes = tensors["fc.0.weight"].shape[1], len(tensors["fc.6.weight"])
    return SHDNet(make, inputs=inputs, hidden=hidden, classes=classes, dropout=0.0, batch_norm=False)


def _vgg_psn(tensors: Tensors, make: NeuronMaker) -> nn.Module:
    widths = tuple(len(tensors[f"features.{index}.fwd.module.0.weight"]) for index in _FLAT)
    classes, flat = tensors["classifier.0.module.1.weight"].shape
    side = isqrt(flat // widths[-1])
    channels = tensors["features.0.fwd.module.0.weight"].shape[1]
    return VGGSNN(make, widths=widths, frame_channels=channels, size=16 * side, classes=classes, bias=True)


def _widths(tensors: Tensors) -> tuple[int, ...]:
    return tuple(len(tensors[f"feature.{index}.conv.weight"]) for index in _PAIRS)


_BLOCK = ((r"^feature\.(\d+)\.conv\.", r"feature.\1.0."), (r"^feature\.(\d+)\.bn\.", r"feature.\1.1."))
_FEATURES = tuple(f"feature.{index}.node" for index in _PAIRS)

NETWORKS = (
    Network(
        "SHD_SNN",
        "fc.8.weight",
        ("fc.3", "fc.7"),
        _shd,
        (
            (r"^ts_conv\.temporal_conv\.conv\.", "attention.smooth.conv."),
            (r"^ts_conv\.spatio_temporal_attention\.recv_T\.", "attention.mix.conv."),
            (r"^ts_conv\.spatio_temporal_attention\.recv_C\.1\.", "attention.attend.layer."),
        ),
    ),
    Network("SeCifarNet", "conv.16.weight", (*(f"conv.{index + 2}" for index in _SIX), "fc.2"), _sequential_cifar),
    Network(
        "cifar_convnet",
        "fc.0.fc.weight",
        _FEATURES,
        _cifar,
        (
            (r"^feature\.0\.conv\.", "feature.0.0.layers.0."),
            (r"^feature\.0\.bn\.", "feature.0.0.layers.1."),
            *_BLOCK,
            (r"^fc\.0\.fc\.", "fc.1."),
        ),
    ),
    Network("FC_SNN", "fc.6.weight", ("fc.1", "fc.3", "fc.5"), _plain),
    Network(
        "VGGPSN",
        "features.0.fwd.module.0.weight",
        tuple(f"features.{index + 1}" for index in _FLAT),
        _vgg_psn,
        (
            *(
                (rf"^features\.{theirs}\.fwd\.module\.{part}\.", f"feature.{ours}.{part}.")
                for theirs, ours in zip(_FLAT, _PAIRS, strict=True)
                for part in (0, 1)
            ),
            (r"^classifier\.0\.module\.1\.", "fc.1."),
        ),
    ),
    Network("VGG_SNN", "feature.10.conv.weight", _FEATURES, _vgg, _BLOCK),
)
"""In the order they are looked for: a network may have the sign of a later one."""


def input_shape(model: nn.Module, size: int = 32) -> tuple[int, ...]:
    """Features of one step of an imported network.

    Args:
        model: what `official.load` returned.
        size: height and width of the images of a CIFARNet, which runs on any.
    """
    match model:
        case SequentialCIFARNet() | VGGSNN() | SHDNet():
            return model.input_shape
        case CIFARNet():
            return (model.image_channels, size, size)
    raise InputError(f"{type(model).__name__} is not a network that can be imported")
