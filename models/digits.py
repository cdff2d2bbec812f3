"""A small fully connected network that reads an 8 x 8 digit column by column."""

from __future__ import annotations

from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_dropout
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.containers import SpikingSequential

STEPS = 8
INPUT_SHAPE = (8,)
CLASSES = 10


class DigitsNet(nn.Module):
    """Two spiking layers and a linear readout, averaged over time.

        y = mean_t W_3 h_2[t],   h_k = Dropout(neuron(BatchNorm(W_k h_{k-1}))),   h_0[t] = column t of the image

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, or a function that makes one neuron layer.
        hidden: neurons per spiking layer.
        dropout: probability that a spike is dropped while training.

    Shapes: (T = 8, B, 8) in, logits (B, 10) out.

    Raises:
        InputError: if there is no such neuron, or an argument is out of range.

    >>> import torch
    >>> DigitsNet("psu", hidden=16)(torch.zeros(STEPS, 4, *INPUT_SHAPE)).shape
    torch.Size([4, 10])
    """

    def __init__(self, neuron: str | NeuronMaker = "rpsu", hidden: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        make = neuron_maker(neuron, STEPS)
        if hidden < 1:
            raise InputError(f"hidden is a number of neurons and must be at least 1, got {hidden}")
        check_dropout(dropout)
        self.layers = SpikingSequential(
            *_spiking_layer(INPUT_SHAPE[0], hidden, make, dropout),
            *_spiking_layer(hidden, hidden, make, dropout),
            nn.Linear(hidden, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.mean(0)


def _spiking_layer(inputs: int, outputs: int, make: NeuronMaker, dropout: float) -> list[nn.Module]:
    # BatchNorm has a bias of its own.
    linear = nn.Linear(inputs, outputs, bias=False)
    return [linear, nn.BatchNorm1d(outputs), make(), nn.Dropout(dropout)]
