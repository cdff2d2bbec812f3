"""What the two-dimensional networks share: pairs of convolutions, each pair followed by a pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.models.neurons import NeuronMaker
from psu_deploy.nn.along_time import DirectEncoding
from psu_deploy.nn.containers import SpikingSequential


def convolutions(
    inputs: int,
    widths: Sequence[int],
    make: NeuronMaker,
    pools: Sequence[nn.Module],
    *,
    static: bool = False,
    bias: bool = False,
) -> SpikingSequential:
    """Blocks of a 3 x 3 convolution, BatchNorm and a neuron layer; a pooling after every second block.

    Args:
        inputs: channels of the input.
        widths: channels of every block, two for each pooling.
        make: makes the neuron layers.
        pools: one for every pair of blocks.
        bias: whether the convolutions have a bias, which the BatchNorm behind them makes superfluous.
        static: whether the input is one image shown at every step; then the first convolution runs once.

    Raises:
        InputError: if there are not two widths for each pooling.
    """
    if len(widths) != 2 * len(pools) or min(widths) < 1:
        raise InputError(f"widths must be {2 * len(pools)} numbers of channels, got {tuple(widths)}")
    layers: list[nn.Module] = []
    for index, outputs in enumerate(widths):
        convolution = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias), nn.BatchNorm2d(outputs)]
        first = [DirectEncoding(*convolution)] if static and index == 0 else convolution
        layers.append(SpikingSequential(*first, make()))
        if index % 2:
            layers.append(pools[index // 2])
        inputs = outputs
    return SpikingSequential(*layers)
