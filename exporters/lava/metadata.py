"""Our metadata in a .net file: one JSON object, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from psu_deploy.exporters.lava.input_code import INPUT_RANGES, LEVELS
from psu_deploy.exporters.lava.integer_network import IntegerNetwork
from psu_deploy.exporters.lava.real_network import Chain
from psu_deploy.exporters.lava.report import QuantisationReport
from psu_deploy.exporters.lava.target import FORMAT
from psu_deploy.machine import StateMachine

_LARGEST = 2**23 - 1
_LARGEST_HORIZON = 2**31
_LIBRARIES = ("psu-deploy", "h5py", "numpy")


def metadata_of(machine: StateMachine, chain: Chain, network: IntegerNetwork) -> dict[str, Any]:
    """Everything a runner must know beside the layers, without the report."""
    names = {block.name for block in chain.blocks}
    return {
        "format": FORMAT,
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
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def check_metadata(values: Any) -> dict[str, Any]:
    """The same object.

    Raises:
        ValueError: if a key is missing or makes no sense.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"its metadata are not of format {FORMAT!r}, the one this release reads")
    for key, fits in _FITS.items():
        if key not in values or not fits(values[key]):
            raise ValueError(f"metadata {key!r} is {values.get(key)!r}")
    if "calibration" in values and not _calibration(values["calibration"]):  # older files have none
        raise ValueError(f"metadata 'calibration' are {values['calibration']!r}")
    return values


def _shape(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(n) is int and n > 0 for n in value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _positive(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and value > 0


def _code(value: Any) -> bool:
    whole = type(value["low"]) is int and type(value["high"]) is int
    return (
        value.keys() == {"unit", "low", "high"}
        and _positive(value["unit"])
        and whole
        and -_LARGEST <= value["low"] <= 0 <= value["high"] <= _LARGEST
    )


def _calibration(value: Any) -> bool:
    return (
        value.keys() == {"input_range", "largest", "grid", "negative", "steps"}
        and value["input_range"] in INPUT_RANGES
        and (_positive(value["largest"] / LEVELS) or (value["largest"] == 0.0 and value["grid"] is not None))
        and (value["grid"] is None or _positive(value["grid"]))
        and isinstance(value["negative"], bool)
        and type(value["steps"]) is int
        and value["steps"] > 0
    )


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "machine_hash": lambda v: isinstance(v, str),
    "input_shape": _shape,
    "output_shape": _shape,
    "readout": lambda v: v in ("last", "sum", "mean"),
    "horizon": lambda v: v is None or (type(v) is int and 0 < v <= _LARGEST_HORIZON),
    "static_input": lambda v: isinstance(v, bool),
    "code": _code,
    "units": lambda v: isinstance(v, list) and bool(v) and all(map(_positive, v)),
    "layers": _names,
    "neurons": lambda v: isinstance(v, dict) and all(map(_shape, v.values())),
    "versions": lambda v: isinstance(v, dict) and _names(list(v.values())),
    "report": lambda v: QuantisationReport.from_dict(v) is not None,
}
"""Key -> whether a value makes sense."""
