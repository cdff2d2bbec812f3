"""Where what can be made again is kept: what PSU_DEPLOY_CACHE names, else psu-deploy in XDG_CACHE_HOME or in ~/.cache.

An empty PSU_DEPLOY_CACHE keeps nothing. Who can write there can put something else in its place, so a folder that is
not this user's alone is ignored.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

VARIABLE = "PSU_DEPLOY_CACHE"


def cache_folder(name: str) -> Path | None:
    """Where one kind of thing is kept; it need not be there. None where nothing is."""
    if not hasattr(os, "geteuid"):  # nobody says there whose a folder is
        return None
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) / name if Path(named).is_absolute() else None
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with suppress(RuntimeError):  # a user without a home
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "psu-deploy" / name
    return None


def is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user, and nobody else may write to it; OSError if it is not there."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
