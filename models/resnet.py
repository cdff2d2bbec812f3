"""ResNet18: residual blocks whose skip connections carry real numbers, for static images."""

from __future__ import annotations

from torch import Tensor, nn

from psu_deploy.models.arguments import check_sizes
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.along_time import DirectEncoding
from psu_deploy.nn.containers import Residual, SpikingSequential
from psu_deploy.nn.neurons import Atan

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))
"""Channels, in widths, and the stride of the first block of every stage."""

BLOCKS = 2
"""Of a stage."""

THRESHOLD = 0.5
"""V_th of the authors' script for static images."""


class ResNet18(nn.Module):
    """Conv 3, four stages of two residual blocks, BatchNorm, global mean, Linear, averaged over time.

        block:  y = skip(x) + Conv3(neuron(BatchNorm(Conv3(neuron(BatchNorm(x))))))
        skip:   x, or Conv1(neuron(BatchNorm(x))) where the shape changes

    Stages have 1, 2, 4 and 8 times `width` channels; all but the first halve height and width. What is added are
    currents, not spikes, so a block can pass its input on unchanged. The input is the same at every step (direct
    encoding), so the first convolution is computed once when the network runs serially.

    The published code is wrong where this is right. There the neurons of ResNet18 never hear of `-T`: they always cut
    the rows of their input, T steps times B samples, into 8 steps. Where T is not 8, they take samples for steps: an
    answer depends on the other images of the batch, and is no answer to one image. Here every neuron layer gets T
    itself and a sequence (T, B, ...), so steps and samples keep their own axes. Checkpoints of that code stay refused.

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, made with the paper's Atan surrogate and the authors' threshold
            0.5 where it has one; or a function that makes one neuron layer.
        T: number of time steps.
        classes: number of classes.
        image_channels: of the image.
        width: channels of the first stage.

    Shapes: (T, B, image_channels, H, W) in, the same image at every t, any H and W; logits (B, classes) out.
        `repeated` makes sequences of images.

    Raises:
        InputError: if there is no such neuron, or a size is less than 1; in forward, if the input changes.

    Reference: arXiv 2402.00449, Table I (CIFAR-10, CIFAR-100); blocks as in arXiv 1603.05027, neurons for ReLU.

    >>> import torch
    >>> from psu_deploy.models import repeated
    >>> ResNet18("psu", width=4)(repeated(torch.zeros(2, 3, 32, 32), 4)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 4,
        classes: int = 10,
        image_channels: int = 3,
        width: int = 64,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, image_channels=image_channels, width=width)
        make = neuron_maker(neuron, T, threshold=THRESHOLD, surrogate=Atan(2.0))
        self.image_channels = image_channels
        self.encode = DirectEncoding(_conv3(image_channels, width))
        self.blocks = SpikingSequential()
        channels = width
        for factor, stride in STAGES:
            for index in range(BLOCKS):
                block = _block(channels, factor * width, 1 if index else stride, make)
                self.blocks.add_module(str(len(self.blocks)), block)
                channels = factor * width
        self.fc = SpikingSequential(
            nn.BatchNorm2d(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.blocks(self.encode(x)))
        return logits.mean(0)


def _block(inputs: int, outputs: int, stride: int, make: NeuronMaker) -> Residual:
    body = [nn.BatchNorm2d(inputs), make(), _conv3(inputs, outputs, stride)]
    body += [nn.BatchNorm2d(outputs), make(), _conv3(outputs, outputs)]
    if inputs == outputs and stride == 1:
        return Residual(*body)
    across = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return Residual(*body, shortcut=SpikingSequential(nn.BatchNorm2d(inputs), make(), across))


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
