"""Recordings of events, counted in steps."""

from __future__ import annotations

from functools import partial

from torch import nn

from psu_deploy.models import SHDNet
from psu_deploy.models.neurons import NeuronMaker
from psu_deploy.training.data import shd as spoken
from psu_deploy.training.data.binning import Binning
from psu_deploy.training.tasks import Task


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
