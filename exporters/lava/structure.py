"""Holds a .net file against what exporting a machine writes: quantised again, compared number for number."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from psu_deploy.exporters.integers.again import CannotBeSaidError, again, apart, facts_apart
from psu_deploy.exporters.lava.emit import as_hdf5
from psu_deploy.exporters.lava.metadata import LIBRARIES
from psu_deploy.files.hdf5 import tree_of
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version


def structure_of(content: bytes, metadata: Mapping[str, Any], machine: StateMachine) -> Structure:
    """How a file stands against an export of a machine.

    Args:
        content: of the file.
        metadata: ours, in it.
        machine: what it should be an export of.
    """
    try:
        network, said, report = again(metadata, machine, "Lava", LIBRARIES)
    except CannotBeSaidError as error:
        return Structure((str(error),))
    layers = [tree_of(written, "layer") for written in (content, as_hdf5(network, said))]
    found = first_of([*apart("/layer", *layers), *facts_apart(metadata, said), *report])
    return judged_by_version(found, metadata["versions"].get("psu-deploy"), version("psu-deploy"))
