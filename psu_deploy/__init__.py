"""Train Parallel Spiking Units in parallel, deploy them serially, prove the spikes are the same."""

import psu_deploy.interrupt  # noqa: F401  first: what ctrl-C does while the rest is imported

# isort: split
from psu_deploy import importers, models
from psu_deploy.api import export, load, verify
from psu_deploy.capture import to_state_machine
from psu_deploy.centring import centre_thresholds
from psu_deploy.errors import (
    ArtifactError,
    EngineError,
    HorizonError,
    InputError,
    InternalError,
    MissingExtraError,
    PsuDeployError,
    StateError,
    UnsupportedModelError,
)
from psu_deploy.machine import StateMachine
from psu_deploy.nn.along_time import Membrane
from psu_deploy.nn.containers import Lift, Residual, SpikingSequential
from psu_deploy.nn.neurons import (
    IPSU,
    LIF,
    PLIF,
    PPSU,
    PSN,
    PSU,
    RPSU,
    SPSN,
    Atan,
    MaskedPSN,
    PiecewiseLinear,
    Rectangle,
    SigmoidTable,
    SlidingPSN,
    Staircase,
)
from psu_deploy.preparation import prepare
from psu_deploy.report import Evidence, write_report
from psu_deploy.verify import EquivalenceReport
from psu_deploy.verify.portable import PortableCertificate, certify

__version__ = "1.0.0"

__all__ = [
    "IPSU",
    "LIF",
    "PLIF",
    "PPSU",
    "PSN",
    "PSU",
    "RPSU",
    "SPSN",
    "ArtifactError",
    "Atan",
    "EngineError",
    "EquivalenceReport",
    "Evidence",
    "HorizonError",
    "InputError",
    "InternalError",
    "Lift",
    "MaskedPSN",
    "Membrane",
    "MissingExtraError",
    "PiecewiseLinear",
    "PortableCertificate",
    "PsuDeployError",
    "Rectangle",
    "Residual",
    "SigmoidTable",
    "SlidingPSN",
    "SpikingSequential",
    "Staircase",
    "StateError",
    "StateMachine",
    "UnsupportedModelError",
    "centre_thresholds",
    "certify",
    "export",
    "importers",
    "load",
    "models",
    "prepare",
    "to_state_machine",
    "verify",
    "write_report",
]
