"""Neuron layers: torch modules, parallel in time."""

from psu_deploy.neurons.base import SpikingUnit, TimeFirst
from psu_deploy.neurons.psn import PSN, SlidingPSN
from psu_deploy.neurons.psu import IPSU, PPSU, PSU, RPSU
from psu_deploy.neurons.surrogate import Atan, PiecewiseLinear, Surrogate

__all__ = [
    "IPSU",
    "PPSU",
    "PSN",
    "PSU",
    "RPSU",
    "Atan",
    "PiecewiseLinear",
    "SlidingPSN",
    "SpikingUnit",
    "Surrogate",
    "TimeFirst",
]
