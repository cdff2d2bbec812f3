"""Options of targets at random. A target of another package runs with its defaults, and with calibration data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from psu_deploy.exporters import Target, target_named
from psu_deploy.fuzz.draw import Draw
from psu_deploy.fuzz.profiles import INTEGERS, Profile

CALIBRATION = "calibration"
"""Option whose value is the case's own input."""


class Options(NamedTuple):
    """What a file is written and opened with: plain data. `calibration` is True, and stands for the input."""

    export: dict[str, Any]
    load: dict[str, Any]


def drawn_options(target: str, draw: Draw, profile: Profile) -> Options:
    """Options of a target, for a network of that profile."""
    if target in _DRAWN:
        return _DRAWN[target](draw, profile)
    return Options({CALIBRATION: True} if _wants_calibration(target_named(target)) else {}, {})


def _wants_calibration(target: Target) -> bool:
    option = target.options_of("export").get(CALIBRATION)
    return option is not None and option.only_with is None


def _onnx(draw: Draw, profile: Profile) -> Options:
    export: dict[str, Any] = {}
    if draw.chance(0.5):
        export["events"] = draw.one((True, False))
    if draw.chance(0.25):
        export["sequence"] = True
    if draw.chance(0.25):
        export["weights"] = draw.one(("float16", "int8"))
    return Options(export, {"threads": 1})


def _c(draw: Draw, profile: Profile) -> Options:
    if draw.chance(0.8 if profile is INTEGERS else 0.03):
        percentile = {"input_range": "percentile"} if draw.chance(0.3) else {}
        return Options({"numerics": "int8", CALIBRATION: True, **percentile}, {})
    flags = {"flags": "-O1"} if draw.chance(0.15) else {}
    return Options({"weights_file": "bin"} if draw.chance(0.3) else {}, flags)


def _nir(draw: Draw, profile: Profile) -> Options:
    if draw.chance(0.6):
        return Options({}, {"simulator": "canonical"})
    approximated = {"allow_approximation": True, CALIBRATION: True, "max_flip_rate": 1.0}
    return Options(draw.one(({"simulator": "portable"}, {"simulator": "norse"}, approximated)), {})


def _lava(draw: Draw, profile: Profile) -> Options:
    """Mostly our own integers: Lava itself takes seconds to start. Where it is not installed, that case is refused."""
    percentile = {"input_range": "percentile"} if draw.chance(0.3) else {}
    return Options({CALIBRATION: True, **percentile}, {"simulator": "lava" if draw.chance(0.04) else "integer"})


_DRAWN: dict[str, Callable[[Draw, Profile], Options]] = {"onnx": _onnx, "c": _c, "nir": _nir, "lava": _lava}
