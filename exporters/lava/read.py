"""Reads a .net file back into an integer network, strictly: Lava itself would round, skip, or hang on what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.integers.from_tree import MalformedError, network_of
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.size import numbers_per_sample
from psu_deploy.exporters.lava.metadata import LavaHeader, header_of
from psu_deploy.exporters.lava.target import GROUP
from psu_deploy.files.hdf5 import read_groups
from psu_deploy.files.limits import NUMBER, check_memory

GROUPS = ("layer", GROUP)
"""Of the file: what lava-dl reads, and what is ours."""


def read(path: Path) -> tuple[IntegerNetwork, LavaHeader]:
    """The network of a file, and what the file says of itself.

    Raises:
        ArtifactError: if the file is missing, damaged, not ours, or holds anything but what we write.
        MissingExtraError: if h5py is not installed.
    """
    trees = read_groups(path, GROUPS, "lava-dl's netx", "lava")
    if GROUP not in trees:
        raise ArtifactError(
            f"{path} holds a network of lava-dl, but not one that psu-deploy wrote: it has no group {GROUP!r}; "
            "load it with lava-dl"
        )
    try:
        header = header_of(json.loads(str(trees[GROUP]["metadata"])))
        network = network_of(trees[GROUPS[0]], header.facts)
    except (MalformedError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{path} is malformed or truncated: {said}") from error
    check_memory(NUMBER * numbers_per_sample(network), path.stat().st_size, f"{path}: one sample of this network")
    return network, header
