"""A report of what rounding did, as a file says it, held against the network.

What a weight is off, and what bounds a state, follows from the network; alarms and totals follow from the layers.
What was measured on calibration data, which are gone, can only be impossible.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from psu_deploy.exporters.integers.measure import unmeasured
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.quantise import Choice
from psu_deploy.exporters.integers.real_network import Chain
from psu_deploy.exporters.integers.report import LayerReport, QuantisationReport

_RATES = ("firing_before", "firing_after", "flip_rate")
_MEASURED = (*_RATES, "observed", "percentile", "dead")

_TOLERANCE = 1e-9
"""Relative: norms are sums, which another processor adds up in another order."""


def report_apart(
    said: Mapping[str, Any],
    chain: Chain,
    network: IntegerNetwork,
    choices: Sequence[Choice],
    neurons: Mapping[str, Sequence[int]],
    steps: int,
) -> Iterator[str]:
    """Where a report is not one of this network.

    Args:
        said: what a file says, as plain data that were checked.
        chain: in real numbers.
        network: in whole numbers.
        choices: how every layer came out.
        neurons: neuron layer -> its features.
        steps: of the calibration data.
    """
    report = QuantisationReport.from_dict(said)
    if len(report.layers) != len(choices):
        yield f"its report is of {len(report.layers)} layers, exporting this network gives {len(choices)}"
        return
    sizes = [prod(neurons[layer.name]) if layer.name in neurons else 0 for layer in network.layers]
    for layer, size in zip(report.layers, sizes, strict=True):
        yield from (f"its report of layer {layer.name!r} is impossible: {why}" for why in _impossible(layer, size > 0))
    layers = tuple(
        replace(unmeasured(block, choice), **{name: getattr(layer, name) for name in _MEASURED})
        for block, choice, layer in zip(chain.blocks, choices, report.layers, strict=True)
    )
    decisions = [steps * report.samples * size for size in sizes]
    flips = sum(round((layer.flip_rate or 0) * count) for layer, count in zip(layers, decisions, strict=True))
    expected = replace(
        report,
        layers=layers,
        steps=steps,
        spikes_compared=sum(decisions),
        flip_rate=flips / max(1, sum(decisions)),
        input_unit=network.code.unit,
        input_levels=(network.code.low, network.code.high),
        horizon=network.horizon,
    )
    yield from _apart("its report", said, json.loads(json.dumps(expected.to_dict())))


def _impossible(layer: LayerReport, spiking: bool) -> Iterator[str]:
    rates = {name: getattr(layer, name) for name in _RATES}
    if any((rate is not None) != spiking for rate in rates.values()):
        yield f"it {'fires' if spiking else 'does not fire'}, and its rates are {rates}"
    elif not all(0 <= share <= 1 for share in (*filter(None, rates.values()), layer.dead)):
        yield f"{rates} and a dead share of {layer.dead!r} are no shares"
    elif spiking and not abs(rates["firing_after"] - rates["firing_before"]) <= rates["flip_rate"] * (1 + _TOLERANCE):
        yield f"{rates}: so many flips do not make this of that"
    if not 0 <= layer.percentile <= layer.observed <= layer.bound:
        yield f"of its states {layer.percentile!r}, {layer.observed!r} and {layer.bound!r} must not fall"


def _apart(where: str, said: Any, expected: Any) -> Iterator[str]:
    """Where two reports differ, of what both have: older ones have less."""
    if isinstance(expected, dict):
        for key in expected.keys() & said.keys():
            yield from _apart(f"{where}, {key}", said[key], expected[key])
    elif isinstance(expected, list) and isinstance(said, list) and len(said) == len(expected):
        for index, pair in enumerate(zip(said, expected, strict=True)):
            yield from _apart(f"{where} {index}", *pair)
    elif not _same(said, expected):
        yield f"{where} is {said!r}, exporting this network gives {expected!r}"


def _same(said: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return math.isclose(said, expected, rel_tol=_TOLERANCE)
    return bool(said == expected)
