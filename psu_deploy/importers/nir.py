"""NIR files -> state machines. What reads them lives beside what writes them, in `psu_deploy.exporters.nir`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psu_deploy.errors import require

if TYPE_CHECKING:
    from psu_deploy.machine import StateMachine


def load(source: Any, dt: float | None = None) -> StateMachine:
    """Turn a NIR file, or a `nir.NIRGraph`, into a state machine; see `psu_deploy.exporters.nir.importing.load`.

    Args:
        source: path of a NIR file, or a `nir.NIRGraph`; it is not changed.
        dt: seconds per step; may be left out if the file says it.

    Raises:
        MissingExtraError: if nir is not installed.
    """
    require("nir", extra="nir")
    from psu_deploy.exporters.nir.importing import load as read

    return read(source, dt)
