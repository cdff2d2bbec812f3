"""Train Parallel Spiking Units in parallel, deploy them serially, prove the spikes are the same."""

from psu_deploy.api import export, load, verify
from psu_deploy.capture import to_state_machine
from psu_deploy.errors import (
    ArtifactError,
    HorizonError,
    InputError,
    InternalError,
    MissingExtraError,
    PsuDeployError,
    StateError,
    UnsupportedModelError,
)
from psu_deploy.machine import StateMachine
from psu_deploy.network import Lift, Residual, SpikingSequential
from psu_deploy.neurons import IPSU, PPSU, PSN, PSU, RPSU, Atan, PiecewiseLinear, SlidingPSN
from psu_deploy.verify import EquivalenceReport

__version__ = "0.1.0"

__all__ = [
    "IPSU",
    "PPSU",
    "PSN",
    "PSU",
    "RPSU",
    "ArtifactError",
    "Atan",
    "EquivalenceReport",
    "HorizonError",
    "InputError",
    "InternalError",
    "Lift",
    "MissingExtraError",
    "PiecewiseLinear",
    "PsuDeployError",
    "Residual",
    "SlidingPSN",
    "SpikingSequential",
    "StateError",
    "StateMachine",
    "UnsupportedModelError",
    "export",
    "load",
    "to_state_machine",
    "verify",
]
