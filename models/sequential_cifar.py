"""6*128C3-256-10: a CIFAR image read column by column, one image column per time step."""

from __future__ import annotations

from torch import Tensor, nn

from psu_deploy.models.arguments import check_multiple, check_sizes
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.containers import SpikingSequential


def columns(images: Tensor) -> Tensor:
    """Images as sequences of columns, left to right: (B, C, H, W) -> (W, B, C, H)."""
    return images.permute(3, 0, 1, 2)


class SequentialCIFARNet(nn.Module):
    """Six one-dimensional convolutions and two linear layers, averaged over time.

        3 x [Conv 3, BatchNorm, neuron], AvgPool 2, 3 x [Conv 3, BatchNorm, neuron], AvgPool 2, Flatten,
        Linear, neuron, Linear, mean over t

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, or a function that makes one neuron layer.
        T: number of time steps, the width of the image.
        channels: of every convolution.
        classes: number of classes.
        height: of the image.
        hidden: neurons of the layer before the last; None = `2 * channels`.
        image_channels: of the image.

    Attributes:
        input_shape: features of one step, (image_channels, height).

    Shapes: (T, B, image_channels, height) in, logits (B, classes) out. `columns` makes sequences of images.

    Reference: arXiv 2402.00449, Table I (sequential CIFAR); the network is that of arXiv 2304.12760.

    >>> import torch
    >>> SequentialCIFARNet("psu", channels=8)(columns(torch.zeros(4, 3, 32, 32))).shape
    torch.Size([4, 10])
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 32,
        channels: int = 128,
        classes: int = 10,
        height: int = 32,
        hidden: int | None = None,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        make = neuron_maker(neuron, T)
        hidden = 2 * channels if hidden is None else hidden
        check_sizes(channels=channels, classes=classes, hidden=hidden, image_channels=image_channels)
        check_multiple("height", height, 4)
        self.input_shape = (image_channels, height)
        layers: list[nn.Module] = []
        for index in range(6):
            inputs = channels if index else image_channels
            layers += [nn.Conv1d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels), make()]
            if index % 3 == 2:
                layers.append(nn.AvgPool1d(2))
        self.conv = SpikingSequential(*layers)
        self.fc = SpikingSequential(
            nn.Flatten(), nn.Linear(channels * (height // 4), hidden), make(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv(x))
        return logits.mean(0)
