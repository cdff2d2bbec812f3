"""What every file of an integer network says of itself: its schema, and what there is to say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from psu_deploy.exporters.integers.input_code import INPUT_RANGES, LEVELS
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.real_network import Chain
from psu_deploy.exporters.integers.report import QuantisationReport
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.artifact import Fidelity
from psu_deploy.runtime.header import Count, Features, Header, Positive, read_header
from psu_deploy.runtime.readout import ReadoutKind

_LARGEST = 2**23 - 1
_LARGEST_HORIZON = 2**31


class Code(Struct, frozen=True, forbid_unknown_fields=True):
    """Of the input: what one is worth, and the smallest and the largest number."""

    unit: Positive
    low: Annotated[int, Meta(ge=-_LARGEST, le=0)]
    high: Annotated[int, Meta(ge=0, le=_LARGEST)]


class CalibrationFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """What the code of the input was made of."""

    input_range: str
    largest: Annotated[float, Meta(ge=0)]
    grid: Positive | None
    negative: bool
    steps: Count


@dataclass(frozen=True, kw_only=True)
class IntegerHeader(Header):
    """What a file with an integer network says of itself.

    Attributes:
        readout: what the decoder says after every step.
        code: of the input.
        units: what one of the last layer's numbers is worth, per channel or for all of them.
        layers: names of the layers of weights, in order.
        neurons: neuron layer -> its features.
        report: of what rounding did, as it was measured at export.
        calibration: None in older files.
    """

    fidelity: Fidelity = "approximate"
    approximations: tuple[str, ...] = ()
    latency: Annotated[int, Meta(ge=0)] = 0
    horizon: Annotated[int, Meta(ge=1, le=_LARGEST_HORIZON)] | None
    readout: ReadoutKind
    code: Code
    units: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    layers: tuple[str, ...]
    neurons: dict[str, Features]
    report: dict[str, Any]
    calibration: CalibrationFacts | None = None


H = TypeVar("H", bound=IntegerHeader)


def metadata_of(
    machine: StateMachine, chain: Chain, network: IntegerNetwork, libraries: Iterable[str]
) -> dict[str, Any]:
    """Everything a runner must know beside the layers, but for the format, the calibration data and the report."""
    names = {block.name for block in chain.blocks}
    return {
        "machine_hash": machine.content_hash,
        "input_shape": list(machine.input_shape),
        "output_shape": list(machine.shapes[machine.output]),
        "readout": chain.readout,
        "horizon": network.horizon,
        "static_input": machine.static_input,
        "code": {"unit": network.code.unit, "low": network.code.low, "high": network.code.high},
        "units": network.units.tolist(),
        "layers": [block.name for block in chain.blocks],
        "neurons": {name: list(machine.shapes[name]) for name in machine.spiking if name in names},
        "versions": {name: version(name) for name in ("psu-deploy", "numpy", *libraries)},
    }


def read_integer_header(schema: type[H], values: Any) -> H:
    """What a file says of itself, checked.

    Raises:
        ValueError: if a key is missing or makes no sense.
    """
    header = read_header(schema, values)
    if header.calibration is not None:
        _check_calibration(header.calibration)
    report = QuantisationReport.from_dict(header.report)
    rounding = (
        f"int8 weights, Loihi-2-style fixed point: {report.flip_rate:.3%} of {report.spikes_compared:,} spikes "
        f"flipped on calibration data of {report.steps} steps and {report.samples} samples"
    )
    return replace(
        header,
        fidelity="approximate",
        approximations=(rounding, *header.report["alarms"]),
    )


def _check_calibration(said: CalibrationFacts) -> None:
    silent = said.largest == 0.0 and said.grid is not None
    unit = said.largest / LEVELS
    if said.input_range not in INPUT_RANGES or not (silent or 0 < unit < math.inf):
        raise ValueError(f"the calibration data are {said}")
