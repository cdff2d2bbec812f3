"""A machine quantised once more, as a file of it was: what the file is held against.

Everything in such a file follows from the machine, the code of the input and the length of the calibration data, and
the file carries the latter two. What it says of the calibration data must give its code of the input in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.integers.input_code import Calibration, code_of
from psu_deploy.exporters.integers.lower import lower
from psu_deploy.exporters.integers.metadata import metadata_of
from psu_deploy.exporters.integers.network import InputCode, IntegerNetwork
from psu_deploy.exporters.integers.quantise import quantise
from psu_deploy.exporters.integers.report_again import report_apart
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import metadata_difference

_OF_THE_WRITER = {"versions", "machine_hash", "report", "calibration"}
"""Metadata that say who wrote the file from what, and what rounding did, which is looked at by itself."""


class CannotBeSaidError(Exception):
    """Why a machine does not give such a file."""


class Again(NamedTuple):
    """What exporting a machine once more gives.

    Attributes:
        network: in whole numbers.
        said: what there is to say of it, but for the report.
        report: where that of the file is not one of this network.
    """

    network: IntegerNetwork
    said: dict[str, Any]
    report: tuple[str, ...]


def again(metadata: Mapping[str, Any], machine: StateMachine, title: str, libraries: Iterable[str]) -> Again:
    """The network that a machine gives, what there is to say of it, and where the report of a file is of another one.

    Args:
        metadata: of the file.
        machine: what the file should be an export of.
        title: of the target.
        libraries: as for `metadata_of`.

    Raises:
        CannotBeSaidError: if the machine gives none, or the metadata contradict each other.
    """
    code, calibration = InputCode(**metadata["code"]), metadata.get("calibration")
    steps = metadata["report"]["steps"] if calibration is None else calibration["steps"]
    if calibration is not None and code_of(Calibration(**calibration)) != code:
        raise CannotBeSaidError(f"its code of the input, {code}, is not the one that its calibration data give")
    try:
        chain = lower(machine)
        network, choices = quantise(chain, code, machine.max_steps, steps)
    except UnsupportedModelError as error:
        reason = error.problems[0].reason
        raise CannotBeSaidError(f"this network cannot be exported to {title} like this: {reason}") from error
    said = metadata_of(machine, chain, network, libraries)
    apart = report_apart(metadata["report"], chain, network, choices, said["neurons"], steps)
    return Again(network, said, tuple(apart))


def facts_apart(metadata: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
    """Where the metadata of a file are not what there is to say."""
    for key in sorted(said.keys() - _OF_THE_WRITER):
        yield from metadata_difference(key, metadata.get(key), json.loads(json.dumps(said[key])))


def apart(where: str, tree: Any, expected: Any) -> Iterator[str]:
    """Where two trees of numbers differ: the name of the place, and both."""
    if not isinstance(tree, dict) or not isinstance(expected, dict):
        yield from _number_differences(where, np.asarray(tree), np.asarray(expected))
        return
    for key in sorted(tree.keys() | expected.keys()):
        if key not in tree or key not in expected:
            yield f"{where}/{key} {'is missing' if key in expected else 'should not be there'}"
        else:
            yield from apart(f"{where}/{key}", tree[key], expected[key])


def _number_differences(where: str, values: Any, expected: Any) -> Iterator[str]:
    if values.dtype != expected.dtype or values.shape != expected.shape:
        is_, should = (f"{v.dtype} of shape {v.shape}" for v in (values, expected))
        yield f"{where} is {is_}, exporting this network gives {should}"
    elif not np.array_equal(values, expected):
        apart = np.argwhere(np.atleast_1d(values != expected))
        at = tuple(int(i) for i in apart[0][: values.ndim])
        count = f", {len(apart):,} numbers differ" if len(apart) > 1 else ""
        place = f" at {at}" if at else ""
        yield f"{where} is {values[at]}{place}, exporting this network gives {expected[at]}{count}"
