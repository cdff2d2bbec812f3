"""SHDNet: spoken digits, 700 input channels, with or without attention over neighbouring steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_dropout, check_sizes
from psu_deploy.models.neurons import NeuronMaker, neuron_maker
from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.containers import Lift, SpikingSequential
from psu_deploy.nn.neurons import Atan

THRESHOLD = 0.3
"""V_th of the authors' script for spoken digits."""


class TemporalAttention(nn.Module):
    """Smooths every input channel over five steps and weighs it by what the steps around say (STSC).

        y = smooth(x) .* (1 - sigmoid(W ReLU(mix(x))))

    `smooth` looks at steps t-2 .. t+2 of its own channel, `mix` at steps t-1 .. t+1 of all channels; zero before and
    after the sequence. Two steps of look-ahead: the serial form answers two steps late.

    Args:
        features: number of input channels.

    Shapes: (T, B, features) in and out.

    Reference: as coded for arXiv 2402.00449 (SHD); Spatio-Temporal Synaptic Connection, Yu et al., 2022.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.smooth = TimeConv1d(features, features, 5, lookahead=2, groups=features, bias=False)
        self.mix = TimeConv1d(features, features, 3, lookahead=1)
        self.attend = Lift(nn.Linear(features, features, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        attention: Tensor = self.attend(torch.relu(self.mix(x)))
        smoothed: Tensor = self.smooth(x)
        return smoothed * (1 - torch.sigmoid(attention))


class SHDNet(nn.Module):
    """700-1024-1024-20, averaged over time.

        [TemporalAttention,] 2 x [Linear, Dropout, BatchNorm, neuron], Linear, mean over t

    Args:
        neuron: a name in `psu_deploy.models.NEURONS`, made with the paper's Atan surrogate and the authors' threshold
            0.3 where it has one; or a function that makes one neuron layer.
        T: number of time steps.
        inputs: number of input channels.
        hidden: neurons of every spiking layer.
        classes: number of classes.
        attention: whether `TemporalAttention` stands in front.
        dropout: probability that a current is dropped while training; 0 = no Dropout.
        batch_norm: whether the currents are normalised.

    Attributes:
        input_shape: features of one step, (inputs,).

    Shapes: (T, B, inputs) in, logits (B, classes) out.

    Reference: arXiv 2402.00449, Table I (SHD); the attention is in the authors' code, not in the paper.
    """

    def __init__(
        self,
        neuron: str | NeuronMaker = "rpsu",
        *,
        T: int = 15,
        inputs: int = 700,
        hidden: Sequence[int] = (1024, 1024),
        classes: int = 20,
        attention: bool = False,
        dropout: float = 0.4,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        make = neuron_maker(neuron, T, threshold=THRESHOLD, surrogate=Atan(2.0))
        check_sizes(inputs=inputs, classes=classes, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
        check_dropout(dropout)
        if not hidden:
            raise InputError("hidden must be one number of neurons or more, got none")
        self.input_shape = (inputs,)
        self.attention = TemporalAttention(inputs) if attention else nn.Identity()
        layers: list[nn.Module] = []
        before = inputs
        for width in hidden:
            layers.append(nn.Linear(before, width))
            layers += [nn.Dropout(dropout)] if dropout else []
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers.append(make())
            before = width
        self.fc = SpikingSequential(*layers, nn.Linear(before, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.attention(x))
        return logits.mean(0)
