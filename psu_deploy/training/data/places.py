"""Where a data set lies that somebody has to fetch, and what is said where it is not there."""

from __future__ import annotations

import os
from pathlib import Path

from psu_deploy.errors import InputError


def needed(folder: Path | None, task: str, source: str) -> Path:
    """The folder of a data set.

    Args:
        folder: as the user named it, None where nobody did.
        task: its name.
        source: where to get the data, and what the folder then holds, in a sentence.

    Raises:
        InputError: if there is none.
    """
    if folder is None:
        ways = f"or keep it as {task} in the folder that PSU_DEPLOY_DATA names"
        raise InputError(
            f"the data of the task {task} has to be fetched: {source}; name the folder with data=DIR, {ways}",
            shell=f"the data of the task {task} has to be fetched: {source}; name the folder with --data DIR, {ways}",
        )
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with the data of the task {task}: {source}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(
            f"the folder {folder} with the data of the task {task} may not be read; change its permissions"
        )
    return folder


def nothing(folder: Path, task: str, source: str, found: str = "none of these files") -> InputError:
    """What to say of a folder that is there and does not hold the data."""
    return InputError(f"{folder} is not the data of the task {task}, it holds {found}: {source}")
