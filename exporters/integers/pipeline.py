"""From a machine to whole numbers, whoever is to run them: lower, calibrate, quantise, measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError
from psu_deploy.exporters.integers.input_code import calibrated, code_of
from psu_deploy.exporters.integers.lower import lower
from psu_deploy.exporters.integers.measure import measure
from psu_deploy.exporters.integers.metadata import metadata_of
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.quantise import quantise
from psu_deploy.exporters.integers.report import QuantisationReport
from psu_deploy.machine import StateMachine
from psu_deploy.machine.inputs import check_sequence, check_static

_CHECKED_SAMPLES = 2


@dataclass(frozen=True, eq=False)
class Rounded:
    """A machine in whole numbers, and what is to be said of it.

    Attributes:
        network: in whole numbers.
        report: what rounding did.
        metadata: everything a runner must know beside the layers, but for the format.
        sample: some of the calibration data, (T, B, *input_shape), for the first run of what was written.
    """

    network: IntegerNetwork
    report: QuantisationReport
    metadata: dict[str, Any]
    sample: NDArray[np.float32]


def rounded(machine: StateMachine, calibration: Any, input_range: str, who: str, libraries: Iterable[str]) -> Rounded:
    """Lower, calibrate, quantise, measure.

    Args:
        machine: what to export.
        calibration: input (T, B, *input_shape), float32, numpy; None is refused.
        input_range: "max" or "percentile".
        who: counts in whole numbers, for the refusal.
        libraries: whose versions are noted, beside ours and numpy's.

    Raises:
        InputError: if there is no calibration data, or it does not fit.
        UnsupportedModelError: listing everything that has no form in whole numbers, or does not fit into 24 bits.
    """
    if calibration is None:
        wanted = "typical input (T, B, *features), which gives the input its scale and measures what rounding does"
        raise InputError(
            f"{who} counts in whole numbers: pass calibration=x, {wanted}",
            shell=f"{who} counts in whole numbers: add --calibrate x.npy, {wanted}",
        )
    chain = lower(machine)
    check_sequence(calibration, machine.input_shape, machine.max_steps, ("float32", "float64"))
    calibration = np.asarray(calibration, np.float32)
    if machine.static_input:
        check_static(calibration)
    facts = calibrated(calibration, input_range)
    network, choices = quantise(chain, code_of(facts), machine.max_steps, facts.steps)
    report = measure(machine, chain, network, choices, calibration)
    said = metadata_of(machine, chain, network, libraries)
    metadata = said | {"calibration": asdict(facts), "report": report.to_dict()}
    return Rounded(network, report, metadata, calibration[:, :_CHECKED_SAMPLES])


def report_path(path: Path) -> Path:
    """Where the quantisation report of a file lies."""
    return path.with_suffix(".quantisation.json")
