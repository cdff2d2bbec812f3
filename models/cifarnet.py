"""CIFARNet: eight convolutions for static images, shown at every step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_sizes
from psu_deploy.models.blocks import convolutions
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.containers import SpikingSequential

WIDTHS = (256, 256, 256, 256, 512, 512, 1024, 1024)


def repeated(images: Tensor, steps: int) -> Tensor:
    """Direct encoding: the same image at every step, (B, C, H, W) -> (T, B, C, H, W), without a copy."""
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    return images.expand(steps, *images.shape)


class CIFARNet(nn.Module):
    """256C3-256C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-1024C3-1024C3-global mean-FC, averaged over time.

    Every convolution is followed by BatchNorm and a neuron layer. The input is the same at every step (direct
    encoding), so the first convolution is computed once when the network runs serially.

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, or a function that makes one neuron layer.
        T: number of time steps.
        classes: number of classes.
        image_channels: of the image.
        widths: channels of the eight convolutions.

    Shapes: (T, B, image_channels, H, W) in, the same image at every t, H and W multiples of 8; logits (B, classes) out.
        `repeated` makes sequences of images.

    Reference: arXiv 2402.00449, Table I (CIFAR-10, CIFAR-100), as its authors' code builds it.
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 4,
        classes: int = 10,
        image_channels: int = 3,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, image_channels=image_channels)
        self.image_channels = image_channels
        pools = [nn.AvgPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)]
        self.feature = convolutions(image_channels, widths, neuron_maker(neuron, T), pools, static=True)
        self.fc = SpikingSequential(nn.Flatten(), nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.feature(x))
        return logits.mean(0)
