"""A network of a single time step that looks at an image in four windows, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_multiple, check_sizes
from psu_deploy.models.window_unit import Threshold, WholeImageUnit, WindowUnit, corners
from psu_deploy.nn.containers import Residual, SpikingSequential
from psu_deploy.nn.neurons import Surrogate


def windows(images: Tensor, *, dilated: bool = False) -> Tensor:
    """Images as the sequence that a `WindowedSNN` reads.

    Args:
        images: (B, C, H, W), H and W even.
        dilated: whether the network has windows that overlap.

    Returns:
        The quarters of every image, the upper two first, (4, B, C, H/2, W/2); all of it in one step, (1, B, C, H, W),
        for a network with dilated windows.

    >>> windows(torch.arange(4.0).view(1, 1, 2, 2)).flatten()
    tensor([0., 1., 2., 3.])
    """
    if dilated:
        return images[None]
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        raise InputError(f"height and width must be even to be cut into quarters, got images of {height} x {width}")
    return torch.stack(corners(images, height // 2, width // 2))


class WindowedSNN(nn.Module):
    """Convolutions over windows of an image, whose membranes go from window to window within one time step.

        z_0 = Conv_{patch x patch}(x);   block:  z <- z + unit(z),  z <- z + W_2 GELU(W_1 z)
        stages of blocks, Conv_{2 x 2} of stride 2 between them;   y = W mean_places z_L

    `unit` is `psu_deploy.models.window_unit.WindowUnit`: spikes of z, two convolutions with a neuron behind each, whose
    membranes are handed from window to window, and a linear layer. The four quarters of the image are the windows, and
    everything pads, merges and averages inside of them: so they go through the whole network one after the other, and
    are the steps of its machine, with the membranes as its state. The time step of the paper is one run of four.

    `dilated=True`: every second block, but for those of the last stage, has windows of three quarters of height and
    width, which overlap; what they fire is averaged where they do. The first of them reaches into what the last
    quarter will bring, so there is no order in which windows go through the network one by one. The machine gets the
    whole image in one step, and the four windows are four pieces of its graph.

    Args:
        classes: number of classes.
        image_channels: of the image.
        size: height and width of the image, a multiple of `patch * 2**len(dims)`.
        patch: height and width of what becomes one place.
        dims: channels of every stage.
        depths: blocks of every stage.
        mlp_ratio: width of the layer between W_1 and W_2, in channels of the stage.
        spiking: whether all weights but the first and the last read spikes: z > V_th in front of W_1 and where stages
            merge, and a threshold for the GELU.
        dilated: whether every second block has windows that overlap.
        encoding: how z becomes spikes: "threshold", z > V_th, or "noise", with the probability z; see below.
        decay: of the membranes that are handed over.
        threshold: V_th, of all neurons.
        theta: of the projection Omega that mixes the membranes, in radians.
        surrogate: gives the gradient of spikes; None = `Rectangle(0.5)`.

    Attributes:
        input_shape: features of one step: (image_channels, size/2, size/2), or (image_channels, size, size) if dilated.

    Shapes: (4, B, image_channels, size/2, size/2) in, (1, B, image_channels, size, size) if dilated; logits
        (B, classes) out. `windows` makes sequences of images.

    Raises:
        InputError: if an argument is out of range; in forward, if a step is not of `input_shape`.

    Reference: arXiv 2401.10843 (ACML 2023). Of the paper we know the abstract. What is here is from the published code,
    the variant for CIFAR-10 with convolutions: windows, their order and how they alternate, both neurons and that
    nothing resets them, decay 0.4, threshold 0.5, firing on ">", the rectangle, Omega with theta = pi/4 for c2 alone,
    residual blocks with a GELU between real numbers, no normalisation (the code makes some and never calls it), the
    variances of the initial weights, and the defaults of the sizes.

    Ours: quarters alone (the code always alternates), and that they stream; "threshold", and that encodings have a
    gradient; `spiking`. The code draws `z > rand` for every window, through which no gradient goes, and draws when it
    is used too: that is "noise", where a place is drawn once for all windows that see it, and outside of training from
    8 bits that every form repeats. The last layer starts as torch's do, not at zero, and there is no stochastic depth.
    Not here: the variant with LSTM, and that for CIFAR-100, which takes (c1 + c2)/2 for Omega and makes spikes again of
    what overlaps. Not established: Equation 4 and the range of theta that goes with it, the settings for TinyImageNet,
    and which variant of the code gave which number of the paper.

    Where blocks multiply real numbers, `verify` can answer for few of them, and says NOT PROVEN at the default sizes.
    With `spiking=True` it proves those too. A machine of `dilated=True` holds the convolutions of its units four times.

    >>> model = WindowedSNN(size=16, dims=(8, 16), depths=(2, 1))
    >>> model(windows(torch.zeros(5, 3, 16, 16))).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        image_channels: int = 3,
        size: int = 32,
        patch: int = 2,
        dims: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 6, 2),
        mlp_ratio: int = 3,
        spiking: bool = False,
        dilated: bool = False,
        encoding: str = "threshold",
        decay: float = 0.4,
        threshold: float = 0.5,
        theta: float = math.pi / 4,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, image_channels=image_channels, patch=patch, mlp_ratio=mlp_ratio)
        _check_stages(dims, depths, dilated)
        check_multiple("size", size, patch * 2 ** len(dims))
        side = size if dilated else size // 2
        self.input_shape = (image_channels, side, side)
        numbers: dict[str, Any] = {"encoding": encoding, "decay": decay, "threshold": threshold, "theta": theta}
        numbers["surrogate"] = surrogate
        layers: list[nn.Module] = [nn.Conv2d(image_channels, dims[0], patch, stride=patch)]
        blocks = 0
        for stage, (width, depth) in enumerate(zip(dims, depths, strict=True)):
            if stage:
                layers += [Threshold(threshold, surrogate)] if spiking else []
                layers.append(nn.Conv2d(dims[stage - 1], width, 2, stride=2, bias=False))
            for block in range(blocks, blocks + depth):
                overlapping = bool(block % 2) and stage < len(dims) - 1
                unit = WholeImageUnit(width, overlapping, **numbers) if dilated else WindowUnit(width, **numbers)
                fires = [Threshold(threshold, surrogate) for _ in range(2)] if spiking else []
                layers += [Residual(unit), _mlp(width, mlp_ratio * width, fires)]
            blocks += depth
        self.layers = SpikingSequential(*layers)
        self.fc = SpikingSequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(dims[-1], classes))
        for module in self.layers.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module, convolution=module is self.layers[0] or module.kernel_size == (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.input_shape:
            raise InputError(
                f"WindowedSNN needs a sequence (T, B, {', '.join(map(str, self.input_shape))}), got {tuple(x.shape)}; "
                "psu_deploy.models.windows makes it of images"
            )
        logits: Tensor = self.fc(self.layers(x))
        return logits.mean(0)


@torch.no_grad()
def _initialise(conv: nn.Conv2d, convolution: bool) -> None:
    """Convolutions keep the variance, linear layers at every place are Xavier's; torch's own leave neurons silent."""
    if convolution:
        conv.weight.normal_(std=conv.weight[0].numel() ** -0.5)
    else:
        nn.init.xavier_uniform_(conv.weight.flatten(1))
    if conv.bias is not None:
        conv.bias.zero_()


def _mlp(width: int, hidden: int, fires: Sequence[Threshold]) -> Residual:
    into, out = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)
    return Residual(fires[0], into, fires[1], out) if fires else Residual(into, nn.GELU(), out)


def _check_stages(dims: Sequence[int], depths: Sequence[int], dilated: bool) -> None:
    if not dims or len(dims) != len(depths):
        raise InputError(f"dims and depths need a number for every stage, got {tuple(dims)} and {tuple(depths)}")
    for width, depth in zip(dims, depths, strict=True):
        check_sizes(dims=width, depths=depth)
    if dilated and sum(depths[:-1]) < 2:
        raise InputError(f"dilated=True needs two blocks before the last stage, got depths={tuple(depths)}")
