"""Writes an integer network as HDF5 in lava-dl's netx dialect.

    /layer                  the network, as `integers.tree` makes it
    /psu_deploy/metadata    JSON

Earlier releases wrote the numbers before rounding to /psu_deploy/real as well.
Only layer types that netx knows: it passes over others in silence. A neuron type that it does not know, it refuses.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from psu_deploy.errors import require
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.tree import tree_of_network
from psu_deploy.exporters.lava.target import GROUP


def as_hdf5(network: IntegerNetwork, metadata: Mapping[str, Any]) -> memoryview:
    """What is in the file of a network with its metadata.

    Raises:
        MissingExtraError: if h5py is not installed.
    """
    h5py = require("h5py", extra="lava")
    buffer = io.BytesIO()  # where the disk is full, HDF5 ends the process
    with h5py.File(buffer, "w") as file:
        _write(file.create_group("layer"), tree_of_network(network))
        ours = file.create_group(GROUP)
        ours["metadata"] = json.dumps(dict(metadata), indent=1)
    return buffer.getbuffer()


def _write(group: Any, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _write(group.create_group(name), value)
        else:
            group[name] = np.array([value.encode()], "S10") if isinstance(value, str) else value
