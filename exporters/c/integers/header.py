"""What C files of an integer network say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from psu_deploy.exporters.c.header import Identifier, MachineHash, metadata_in
from psu_deploy.exporters.c.integers.numbers import from_plain
from psu_deploy.exporters.integers.from_tree import MalformedError, network_of
from psu_deploy.exporters.integers.metadata import IntegerHeader, read_integer_header
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.size import numbers_per_sample
from psu_deploy.files.limits import NUMBER, check_memory
from psu_deploy.runtime.header import malformed

FORMAT = "psu-deploy.c-int8.1"

LIBRARIES = ()
"""Beside our own: whose versions stand in a file."""


@dataclass(frozen=True, kw_only=True)
class IntegerCHeader(IntegerHeader):
    """What C files of an integer network say of themselves.

    Attributes:
        prefix: of all names.
        trace: what the layers are called in the trace, in order.
        files: name -> SHA-256 of its text; of `net.c`, without the comment that says so.
        network: the tree of its numbers.
    """

    target: ClassVar[str] = "c"
    format: ClassVar[str] = FORMAT

    machine_hash: MachineHash
    prefix: Identifier
    trace: tuple[Identifier, ...]
    files: dict[str, str]
    network: dict[str, Any]


def read(path: Path, content: bytes) -> tuple[IntegerNetwork, IntegerCHeader]:
    """The network of a file as its metadata hold it, and what they say.

    Args:
        path: of `net.c`.
        content: of it.

    Raises:
        ArtifactError: if it was not written by us, is of another format, or holds anything but what we write.
    """
    values = metadata_in(path, content)
    try:
        header = read_integer_header(IntegerCHeader, values)
        network = network_of(from_plain(header.network), values)
        if len(header.trace) != len(network.layers):
            raise ValueError(f"there are {len(header.trace)} names for {len(network.layers)} layers")
    except (MalformedError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError) as error:
        raise malformed(path, "psu-deploy", error) from error
    check_memory(NUMBER * numbers_per_sample(network), len(content), f"{path}: one sample of this network")
    return network, header
