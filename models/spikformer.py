"""Spikformer: a vision transformer whose queries, keys and values are spikes."""

from __future__ import annotations

from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_multiple, check_sizes
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.along_time import DirectEncoding
from psu_deploy.nn.containers import Residual, SpikingSequential
from psu_deploy.nn.neurons.base import TimeFirst
from psu_deploy.numerics.checks import check_number

CONVOLUTIONS = 4
"""Of the patch embedding; each doubles the channels, the last has `width`."""

THRESHOLD = 0.5
"""V_th of neurons made by name: that of the attention in the authors' code, here everywhere, for neurons of the PSU
family, which hear of a spike only by estimating it, fire less than a LIF."""


class SpikingSelfAttention(TimeFirst):
    """Every token looks at every token of its own step: products of spikes, no softmax.

        Q, K, V = neuron(BatchNorm(W x))                    spikes, (tokens, width / heads) for every head
        y = neuron(BatchNorm(W_o neuron(scale (Q K^T) V)))

    `Q K^T` counts the features in which two tokens fire together. Steps do not meet but in the neurons, so the module
    is as causal as they are.

    Args:
        width: features of a token.
        heads: number of heads; divides width.
        make: makes the five neuron layers.
        scale: of the products; a power of two is exact.

    Shapes: (T, B, width, tokens) in and out.

    Raises:
        InputError: if heads does not divide width.

    Reference: arXiv 2209.15425, Eq. 6-8.
    """

    def __init__(self, width: int, heads: int, make: NeuronMaker, scale: float = 0.125) -> None:
        super().__init__()
        check_sizes(width=width, heads=heads)
        check_number("scale", scale)
        if width % heads:
            raise InputError(f"heads must divide width={width}, got heads={heads}")
        self.heads = heads
        self.scale = float(scale)
        self.query, self.key, self.value = (SpikingSequential(*_per_token(width, width, make)) for _ in range(3))
        self.attended = make()
        self.project = SpikingSequential(*_per_token(width, width, make))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = (q.transpose(-2, -1) @ k) @ v.transpose(-2, -1)
        joined = mixed.transpose(-2, -1).reshape(x.shape) * self.scale
        projected: Tensor = self.project(self.attended(joined))
        return projected

    def _split(self, spikes: Tensor) -> Tensor:
        """(T, B, width, tokens) -> (T, B, heads, width / heads, tokens)."""
        steps, batch, width, tokens = spikes.shape
        return spikes.reshape(steps, batch, self.heads, width // self.heads, tokens)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, scale={self.scale:g}"


class Spikformer(nn.Module):
    """Patches by convolution, blocks of spiking self attention and a spiking MLP, mean over tokens and time, Linear.

        z_0 = p + neuron(BatchNorm(Conv3(p))),   p = 4 x [Conv3, BatchNorm, neuron], pooled to tokens
        z   = z_l + SpikingSelfAttention(z_l)
        z_{l+1} = z + neuron(BatchNorm(W_2 neuron(BatchNorm(W_1 z))))
        y = mean_t W mean_tokens z_L

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, made with threshold 0.5 where it has one; or a function that
            makes one neuron layer.
        T: number of time steps.
        classes: number of classes.
        image_channels: of a frame.
        size: height and width of a frame, a multiple of `patch`.
        patch: height and width that become one token: 1, 2, 4, 8 or 16, by pooling.
        width: features of a token, a multiple of 8.
        depth: number of blocks.
        heads: of the attention; divides width.
        hidden: features of a token inside the MLP; None = `4 * width`.
        scale: of the products of the attention.
        static: whether the input is one image shown at every step; then the first convolution runs once, and a
            sequence that changes is refused.

    Attributes:
        input_shape: features of one step, (image_channels, size, size).

    Shapes: (T, B, image_channels, size, size) in, logits (B, classes) out. `repeated` makes sequences of images.

    Raises:
        InputError: if there is no such neuron, or an argument is out of range.

    Reference: Zhou et al., Spikformer, arXiv 2209.15425; the defaults are its Spikformer-4-384 for CIFAR.

    >>> import torch
    >>> model = Spikformer("psu", image_channels=1, size=8, patch=2, width=16, depth=1, heads=2)
    >>> model(torch.zeros(4, 5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 4,
        classes: int = 10,
        image_channels: int = 3,
        size: int = 32,
        patch: int = 4,
        width: int = 384,
        depth: int = 4,
        heads: int = 12,
        hidden: int | None = None,
        scale: float = 0.125,
        static: bool = False,
    ) -> None:
        super().__init__()
        make = neuron_maker(neuron, T, threshold=THRESHOLD)
        hidden = 4 * width if hidden is None else hidden
        check_sizes(classes=classes, image_channels=image_channels, depth=depth, hidden=hidden)
        if patch not in _PATCHES:
            raise InputError(f"patch must be one of {', '.join(map(str, _PATCHES))}, got {patch!r}")
        check_multiple("size", size, patch)
        check_multiple("width", width, 2 ** (CONVOLUTIONS - 1))
        self.input_shape = (image_channels, size, size)
        self.patches = _patches(image_channels, width, _PATCHES.index(patch), make, static)
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks.append(Residual(SpikingSelfAttention(width, heads, make, scale)))
            blocks.append(Residual(*_per_token(width, hidden, make), *_per_token(hidden, width, make)))
        self.blocks = SpikingSequential(*blocks)
        self.fc = SpikingSequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(3)
        logits: Tensor = self.fc(self.blocks(tokens))
        return logits.mean(0)


_PATCHES = tuple(2**pools for pools in range(CONVOLUTIONS + 1))


def _patches(inputs: int, width: int, pools: int, make: NeuronMaker, static: bool) -> SpikingSequential:
    """Frames to maps of tokens, (T, B, C, H, W) -> (T, B, width, H / 2**pools, W / 2**pools)."""
    layers: list[nn.Module] = []
    for index in range(CONVOLUTIONS):
        outputs = width // 2 ** (CONVOLUTIONS - 1 - index)
        convolution = _convolution(inputs, outputs)
        layers += [DirectEncoding(*convolution)] if static and not index else convolution
        layers.append(make())
        layers += [nn.MaxPool2d(2)] if index >= CONVOLUTIONS - pools else []
        inputs = outputs
    return SpikingSequential(*layers, Residual(*_convolution(width, width), make()))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _per_token(inputs: int, outputs: int, make: NeuronMaker) -> list[nn.Module]:
    """The same linear layer for every token, and neurons: (T, B, inputs, tokens) -> (T, B, outputs, tokens)."""
    return [nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs), make()]
