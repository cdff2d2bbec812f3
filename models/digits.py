"""A small fully connected network, made for 8 x 8 digits that come column by column."""

from __future__ import annotations

from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_dropout, check_sizes
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.containers import SpikingSequential

STEPS = 8
INPUT_SHAPE = (8,)
CLASSES = 10


class DigitsNet(nn.Module):
    """Two spiking layers and a linear readout, averaged over time.

        y = mean_t W_3 h_2[t],   h_k = Dropout(neuron(BatchNorm(W_k h_{k-1}))),   h_0[t] = what is seen at step t

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, or a function that makes one neuron layer.
        hidden: neurons per spiking layer.
        dropout: probability that a spike is dropped while training.
        T: number of time steps.
        inputs: features of one step; by default a column of an image.
        classes: number of classes.
        answer: steps at the end in which the readout counts; None = all.

    Attributes:
        input_shape: features of one step, (inputs,).

    Shapes: (T, B, inputs) in, logits (B, classes) out.

    Raises:
        InputError: if there is no such neuron, or an argument is out of range.

    >>> import torch
    >>> DigitsNet("psu", hidden=16)(torch.zeros(STEPS, 4, *INPUT_SHAPE)).shape
    torch.Size([4, 10])
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        hidden: int = 128,
        dropout: float = 0.2,
        *,
        T: int = STEPS,
        inputs: int = INPUT_SHAPE[0],
        classes: int = CLASSES,
        answer: int | None = None,
    ) -> None:
        super().__init__()
        make = neuron_maker(neuron, T)
        check_sizes(inputs=inputs, classes=classes, answer=T if answer is None else answer)
        if hidden < 1:
            raise InputError(f"hidden is a number of neurons and must be at least 1, got {hidden}")
        check_dropout(dropout)
        self.input_shape = (inputs,)
        self.answer = answer
        self.layers = SpikingSequential(
            *_spiking_layer(inputs, hidden, make, dropout),
            *_spiking_layer(hidden, hidden, make, dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.mean(0) if self.answer is None else logits[-self.answer :].mean(0)


def _spiking_layer(inputs: int, outputs: int, make: NeuronMaker, dropout: float) -> list[nn.Module]:
    # BatchNorm has a bias of its own.
    linear = nn.Linear(inputs, outputs, bias=False)
    return [linear, nn.BatchNorm1d(outputs), make(), nn.Dropout(dropout)]
