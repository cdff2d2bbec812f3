"""What the doctor says of Lava."""

from __future__ import annotations

from psu_deploy.exporters.lava import environment


def interpreter() -> str:
    """Which Python Lava runs in.

    Raises:
        MissingExtraError: if there is none, and how to make it.
    """
    found = environment.find()
    return f"ok, {found.python} ({found.origin})"
