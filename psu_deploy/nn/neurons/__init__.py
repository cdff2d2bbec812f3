"""Neuron layers: torch modules, parallel in time."""

from psu_deploy.nn.neurons.base import Neuron, SpikingUnit, TimeFirst
from psu_deploy.nn.neurons.estimators import SigmoidTable, Staircase
from psu_deploy.nn.neurons.lif import LIF, PLIF
from psu_deploy.nn.neurons.psn import PSN, MaskedPSN, SlidingPSN
from psu_deploy.nn.neurons.psu import IPSU, PPSU, PSU, RPSU
from psu_deploy.nn.neurons.spsn import SPSN
from psu_deploy.nn.neurons.surrogate import Atan, PiecewiseLinear, Surrogate

__all__ = [
    "IPSU",
    "LIF",
    "PLIF",
    "PPSU",
    "PSN",
    "PSU",
    "RPSU",
    "SPSN",
    "Atan",
    "MaskedPSN",
    "Neuron",
    "PiecewiseLinear",
    "SigmoidTable",
    "SlidingPSN",
    "SpikingUnit",
    "Staircase",
    "Surrogate",
    "TimeFirst",
]
