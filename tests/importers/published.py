"""Checkpoints in the format of the published code, and what that code computes from them.

Both are written from its equations: every matrix is T x T and as saved, layers are torch.nn.functional in float64.
Nothing here calls the package.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NODE_TYPES = {"psu": "PSU", "ipsu": "IPSU", "ppsu": "PPSU", "rpsu": "RPSU"}
PAIRS = (0, 1, 3, 4, 6, 7, 9, 10)
SIX = (0, 3, 6, 10, 13, 16)


@dataclass
class Published:
    """Draws the parameters of one network and runs it.

    Args:
        kind: of its neurons.
        T: number of steps.
        tau: time constant.
        threshold: of every neuron.
        seed: of all numbers.
    """

    kind: str
    T: int
    tau: float = 2.0
    threshold: float = 0.5
    seed: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    # -- the state dict, key by key ------------------------------------------------------------------------------

    def draw(self, key: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> None:
        self.state[key] = torch.from_numpy(self.random.normal(shift, scale, shape)).float()

    def layer(self, name: str, *shape: int, bias: bool = False) -> None:
        self.draw(f"{name}.weight", *shape, scale=2 * self.tau / np.sqrt(np.prod(shape[1:])))
        if bias:
            self.draw(f"{name}.bias", shape[0], scale=0.1, shift=(self.threshold + 0.3) * self.tau)

    def norm(self, name: str, channels: int) -> None:
        self.draw(f"{name}.weight", channels, scale=0.2, shift=2 * self.tau)  # strong enough to make neurons fire
        self.draw(f"{name}.bias", channels, scale=0.3, shift=(self.threshold + 0.3) * self.tau)
        self.draw(f"{name}.running_mean", channels, scale=0.1)
        self.state[f"{name}.running_var"] = torch.from_numpy(self.random.uniform(0.5, 1.5, channels)).float()
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def neuron(self, name: str) -> None:
        a, lag = 1.0 / self.tau, np.arange(self.T)[:, None] - np.arange(self.T)[None, :]
        m1 = np.where(lag >= 0, a ** np.maximum(lag + 1, 0), 0.0)
        m2 = np.where(lag > 0, -(a ** np.maximum(lag, 0)), 0.0)
        self.state[f"{name}.threshold"] = torch.tensor(self.threshold)
        self.state[f"{name}.m1"] = torch.from_numpy(m1).float()
        self.state[f"{name}.m2"] = torch.from_numpy(m2 * (self.threshold if self.kind == "psu" else 1.0)).float()
        self.state[f"{name}.act_fun.alpha"] = torch.tensor(2.0)
        if self.kind == "psu":
            return
        self.state[f"{name}.mask0"] = torch.ones(self.T, self.T).tril()
        self.draw(f"{name}.fc.weight", self.T, self.T, scale=np.sqrt(2.0 / self.T))  # the upper triangle is not zero
        self.state[f"{name}.fc.weight"].diagonal().abs_().add_(
            0.5
        )  # a step's own current should make it fire, not stop it
        self.draw(f"{name}.fc.bias", self.T, scale=0.2)
        if self.kind == "rpsu":
            self.state[f"{name}.fc.bias"][-1] = 0.0

    # -- what the code computes ----------------------------------------------------------------------------------

    def apply(self, name: str, function, x: Tensor, **options) -> Tensor:
        """A stateless layer on (T, B, ...), all steps at once."""
        weight, bias = self.exact(f"{name}.weight"), self.exact(f"{name}.bias")
        return function(x.flatten(0, 1), weight, bias, **options).unflatten(0, x.shape[:2])

    def normalise(self, name: str, x: Tensor) -> Tensor:
        numbers = [self.exact(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x.flatten(0, 1), *numbers, eps=1e-5).unflatten(0, x.shape[:2])

    def fire(self, name: str, x: Tensor, spikes: dict[str, Tensor]) -> Tensor:
        """The four neurons as coded; strictly above the threshold fires."""
        m1, m2 = self.exact(f"{name}.m1"), self.exact(f"{name}.m2")
        flat = x.flatten(1)
        if self.kind == "psu":
            u = m1 @ flat
            membrane = u + m2 @ torch.sigmoid(u)
        else:
            masked = self.exact(f"{name}.fc.weight") * self.exact(f"{name}.mask0")
            d = masked @ flat + self.exact(f"{name}.fc.bias")[:, None]
            if self.kind == "ipsu":
                membrane = d + m2 @ flat
            elif self.kind == "ppsu":
                membrane = d + m2 @ torch.sigmoid(d)
            else:
                membrane = m1 @ flat + m2 @ torch.sigmoid(d)
        spikes[name] = (membrane - self.exact(f"{name}.threshold") > 0).double().view_as(x)
        return spikes[name]

    def exact(self, key: str) -> Tensor | None:
        return self.state[key].double() if key in self.state else None

    # -- the file ------------------------------------------------------------------------------------------------

    def save(self, path, *, wrapper: str = "state_dict", **changes) -> None:
        """As timm's saver writes it; keyword arguments change the script's arguments, None leaves one out."""
        said = {"node_type": NODE_TYPES[self.kind], "step": self.T, "tau": self.tau, "threshold": self.threshold}
        said |= {"act_fun": "AtanGrad", "layer_by_layer": True, "sigmoid_thres": False, "n_groups": 1} | changes
        args = argparse.Namespace(**{name: value for name, value in said.items() if value is not None})
        content = {"epoch": 3, "arch": "net", wrapper: self.state, "optimizer": {"state": {}}, "version": 2}
        torch.save(content | {"args": args, "metric": 51.5}, path)


def conv_channels(width: int) -> Iterator[tuple[int, int]]:
    yield from ((3 if index == 0 else width, index) for index in SIX)


class SeCifarNet(Published):
    """3 x [Conv1d, BN, N], AvgPool 2, 3 x [Conv1d, BN, N], AvgPool 2, Flatten, Linear, N, Linear, mean over t."""

    def make(self, channels: int = 6, height: int = 8, classes: int = 5, hidden: int = 9) -> SeCifarNet:
        self.features = (3, height)
        for inputs, index in conv_channels(channels):
            self.layer(f"conv.{index}", channels, inputs, 3)
            self.norm(f"conv.{index + 1}", channels)
            self.neuron(f"conv.{index + 2}")
        self.layer("fc.1", hidden, channels * height // 4, bias=True)
        self.neuron("fc.2")
        self.layer("fc.3", classes, hidden, bias=True)
        return self

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        for index in SIX:
            x = self.normalise(f"conv.{index + 1}", self.apply(f"conv.{index}", F.conv1d, x, padding=1))
            x = self.fire(f"conv.{index + 2}", x, spikes)
            if index in (6, 16):
                x = F.avg_pool1d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
        x = self.fire("fc.2", self.apply("fc.1", F.linear, x.flatten(2)), spikes)
        return self.apply("fc.3", F.linear, x).mean(0), spikes


class VGGSNN(Published):
    """[C BN N, C BN N, AvgPool 2] x 4, Flatten, Linear, mean over t."""

    def make(self, widths=(3, 4, 4, 5, 5, 5, 6, 6), size: int = 16, classes: int = 4, inputs: int = 2) -> VGGSNN:
        self.features = (inputs, size, size)
        self.features_of_blocks(widths, inputs)
        self.layer("fc.1", classes, widths[-1] * (size // 16) ** 2, bias=True)
        return self

    def features_of_blocks(self, widths, inputs: int) -> None:
        for index, outputs in zip(PAIRS, widths, strict=True):
            self.layer(f"feature.{index}.conv", outputs, inputs, 3, 3)
            self.norm(f"feature.{index}.bn", outputs)
            self.neuron(f"feature.{index}.node")
            inputs = outputs

    def blocks(self, x: Tensor, spikes: dict[str, Tensor], last_pool) -> Tensor:
        for index in PAIRS:
            x = self.apply(f"feature.{index}.conv", F.conv2d, x, padding=1)
            x = self.fire(f"feature.{index}.node", self.normalise(f"feature.{index}.bn", x), spikes)
            if index in (1, 4, 7, 10):
                pool = last_pool if index == 10 else lambda y: F.avg_pool2d(y, 2)
                x = pool(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        x = self.blocks(x, spikes, lambda y: F.avg_pool2d(y, 2))
        return self.apply("fc.1", F.linear, x.flatten(2)).mean(0), spikes


class CifarConvNet(VGGSNN):
    """The same with a global mean at the end, and the image shown at every step."""

    def make(self, widths=(3, 4, 4, 5, 5, 5, 6, 6), size: int = 16, classes: int = 4, inputs: int = 3) -> CifarConvNet:
        self.features = (inputs, size, size)
        self.features_of_blocks(widths, inputs)
        self.layer("fc.0.fc", classes, widths[-1], bias=True)
        return self

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        x = self.blocks(x, spikes, lambda y: y.mean((2, 3)))
        return self.apply("fc.0.fc", F.linear, x).mean(0), spikes


class SHDNet(Published):
    """STSC, 2 x [Linear, Dropout, BN, N], Linear, mean over t."""

    attention = True

    def make(self, inputs: int = 11, hidden: int = 13, classes: int = 4) -> SHDNet:
        self.features = (inputs,)
        if self.attention:
            self.layer("ts_conv.temporal_conv.conv", inputs, 1, 5)
            self.layer("ts_conv.spatio_temporal_attention.recv_T", inputs, inputs, 3, bias=True)
            self.layer("ts_conv.spatio_temporal_attention.recv_C.1", inputs, inputs)
        for index, before in ((0, inputs), (4, hidden)):
            self.layer(f"fc.{index}", hidden, before, bias=True)
            self.norm(f"fc.{index + 2}", hidden)
            self.neuron(f"fc.{index + 3}")
        self.layer("fc.8", classes, hidden, bias=True)
        return self

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        if self.attention:
            x = self.look_around(x.permute(1, 2, 0)).permute(2, 0, 1)
        for index in (0, 4):
            x = self.normalise(f"fc.{index + 2}", self.apply(f"fc.{index}", F.linear, x))
            x = self.fire(f"fc.{index + 3}", x, spikes)
        return self.apply("fc.8", F.linear, x).mean(0), spikes

    def look_around(self, x: Tensor) -> Tensor:
        """(B, features, T), padded with zeros at both ends."""
        smooth = F.conv1d(x, self.exact("ts_conv.temporal_conv.conv.weight"), padding=2, groups=x.shape[1])
        receive = "ts_conv.spatio_temporal_attention.recv_T"
        mixed = F.conv1d(x, self.exact(f"{receive}.weight"), self.exact(f"{receive}.bias"), padding=1)
        weight = self.exact("ts_conv.spatio_temporal_attention.recv_C.1.weight")
        attention = torch.einsum("oc,bct->bot", weight, torch.relu(mixed))
        return smooth * (1 - torch.sigmoid(attention))


class PlainSHDNet(SHDNet):
    attention = False


NETWORKS = {"SeCifarNet": SeCifarNet, "VGG_SNN": VGGSNN, "cifar_convnet": CifarConvNet, "SHD_SNN": SHDNet}


class FCNet(Published):
    """3 x [Linear, N], Linear, mean over t: no BatchNorm."""

    def make(self, inputs: int = 7, hidden: int = 9, classes: int = 4) -> FCNet:
        self.features = (inputs,)
        for index, before in ((0, inputs), (2, hidden), (4, hidden)):
            self.layer(f"fc.{index}", hidden, before, bias=True)
            self.neuron(f"fc.{index + 1}")
        self.layer("fc.6", classes, hidden, bias=True)
        return self

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        for index in (0, 2, 4):
            x = self.fire(f"fc.{index + 1}", self.apply(f"fc.{index}", F.linear, x), spikes)
        return self.apply("fc.6", F.linear, x).mean(0), spikes


class VGGPSN(Published):
    """The network of the PSN authors for DVS-CIFAR10: convolutions with bias, sliding neurons of order 2."""

    indices = (0, 2, 5, 7, 10, 12, 15, 17)

    def make(self, widths=(3, 4, 4, 5, 5, 5, 6, 6), size: int = 16, classes: int = 4, inputs: int = 2) -> VGGPSN:
        self.features = (inputs, size, size)
        for index, outputs in zip(self.indices, widths, strict=True):
            self.layer(f"features.{index}.fwd.module.0", outputs, inputs, 3, 3, bias=True)
            self.norm(f"features.{index}.fwd.module.1", outputs)
            self.draw(f"features.{index + 1}.weight", 2, scale=0.3, shift=0.7)
            self.state[f"features.{index + 1}.threshold"] = torch.tensor(-1.0)
            inputs = outputs
        self.layer("classifier.0.module.1", classes, widths[-1] * (size // 16) ** 2, bias=True)
        return self

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        spikes: dict[str, Tensor] = {}
        for index in self.indices:
            x = self.apply(f"features.{index}.fwd.module.0", F.conv2d, x, padding=1)
            x = self.normalise(f"features.{index}.fwd.module.1", x)
            before, now = self.exact(f"features.{index + 1}.weight")
            earlier = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
            x = (before * earlier + now * x + self.exact(f"features.{index + 1}.threshold") >= 0).double()
            spikes[f"features.{index + 1}"] = x
            if index in (2, 7, 12, 17):
                x = F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
        return self.apply("classifier.0.module.1", F.linear, x.flatten(2)).mean(0), spikes
