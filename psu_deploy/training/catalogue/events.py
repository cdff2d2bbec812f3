"""Recordings of events, counted in steps."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from psu_deploy.models import VGGSNN, SHDNet
from psu_deploy.models.neurons import NeuronMaker
from psu_deploy.training.data import cifar10_dvs as moving
from psu_deploy.training.data import n_mnist as saccades
from psu_deploy.training.data import shd as spoken
from psu_deploy.training.data.augment import cropped, flipped, rotated
from psu_deploy.training.data.binning import Binning
from psu_deploy.training.tasks import Task, time_first

SEEN = 32
"""Pixels of a side that the network for N-MNIST sees of 34: it pools four times."""

WIDTHS = (16, 32, 32, 32, 64, 64, 64, 64)
"""Channels of its convolutions, an eighth of the paper's for harder data."""


def shd(steps: int = 15, binning: str = "paper", bin_ms: float = 60.0, attention: bool = False) -> Task:
    """Spoken digits, 700 units: counts of spikes in 15 steps, 60 ms each where they have a width of their own."""
    bins = Binning(binning, steps, bin_ms)

    def network(neuron: str | NeuronMaker = "rpsu", hidden: int = 1024, dropout: float = 0.4) -> nn.Module:
        return SHDNet(neuron, T=steps, hidden=(hidden, hidden), dropout=dropout, attention=attention)

    return Task(
        read=partial(spoken.shd, bins),
        steps=steps,
        input_shape=(spoken.UNITS,),
        classes=spoken.CLASSES,
        network=network,
        source=spoken.SOURCE,
        not_streamable=bins.not_streamable,
    )


def n_mnist(steps: int = 10, binning: str = "paper", bin_ms: float = 31.0) -> Task:
    """Handwritten digits seen by an event camera: counts of the 32 x 32 pixels in the middle, in 10 steps."""
    bins = Binning(binning, steps, bin_ms)
    return Task(
        read=partial(saccades.n_mnist, bins),
        steps=steps,
        input_shape=(2, SEEN, SEEN),
        classes=saccades.CLASSES,
        network=partial(VGGSNN, T=steps, classes=saccades.CLASSES, size=SEEN, widths=WIDTHS),
        encode=_middle,
        source=saccades.SOURCE,
        not_streamable=bins.not_streamable,
    )


def cifar10_dvs(steps: int = 10, binning: str = "paper", bin_ms: float = 120.0) -> Task:
    """Images of CIFAR-10 seen by an event camera: counts, 48 x 48 pixels, in 10 steps."""
    bins = Binning(binning, steps, bin_ms)
    return Task(
        read=partial(moving.cifar10_dvs, bins),
        steps=steps,
        input_shape=(2, moving.SIZE, moving.SIZE),
        classes=len(moving.NAMES),
        network=partial(VGGSNN, T=steps, classes=len(moving.NAMES), size=moving.SIZE),
        augment=lambda frames: rotated(flipped(cropped(frames))),
        source=moving.SOURCE,
        not_streamable=bins.not_streamable,
    )


def _middle(counts: Tensor) -> Tensor:
    edge = (counts.shape[-1] - SEEN) // 2
    return time_first(counts[..., edge : edge + SEEN, edge : edge + SEEN])
