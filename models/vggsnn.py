"""VGGSNN: eight convolutions for event data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from psu_deploy.models.arguments import check_multiple, check_sizes
from psu_deploy.models.blocks import convolutions
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PiecewiseLinear

WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)

THRESHOLD = 0.5
"""V_th of the authors' script for event data."""

SURROGATE = PiecewiseLinear(2.0)
"""Of Table I, in the authors' code `QGateGrad`."""


class VGGSNN(nn.Module):
    """64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-AP2-FC, averaged over time.

    Every convolution is followed by BatchNorm and a neuron layer.

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, made with the paper's piecewise linear surrogate and the
            authors' threshold 0.5 where it has one; or a function that makes one neuron layer.
        T: number of time steps.
        classes: number of classes.
        size: height and width of a frame, a multiple of 16.
        frame_channels: of a frame; 2 for event data.
        widths: channels of the eight convolutions.
        bias: whether the convolutions have a bias.

    Attributes:
        input_shape: features of one step, (frame_channels, size, size).

    Shapes: (T, B, frame_channels, size, size) in, logits (B, classes) out.

    Reference: arXiv 2402.00449, Table I (DVS-CIFAR10).
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 10,
        classes: int = 10,
        size: int = 48,
        frame_channels: int = 2,
        widths: Sequence[int] = WIDTHS,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, frame_channels=frame_channels)
        check_multiple("size", size, 16)
        self.input_shape = (frame_channels, size, size)
        pools = [nn.AvgPool2d(2) for _ in range(4)]
        make = neuron_maker(neuron, T, threshold=THRESHOLD, surrogate=SURROGATE)
        self.feature = convolutions(frame_channels, widths, make, pools, bias=bias)
        self.fc = SpikingSequential(nn.Flatten(), nn.Linear(widths[-1] * (size // 16) ** 2, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.feature(x))
        return logits.mean(0)
