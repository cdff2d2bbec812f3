"""Where data sets are."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PSU_DEPLOY_DATA"
"""Names the folder that holds a folder per task, for whoever does not want to name one every time."""


def data_folder(task: str, data: str | Path | None) -> Path | None:
    """The folder of a task's data set: the one given, else `$PSU_DEPLOY_DATA/<task>`, else None."""
    if data is not None:
        return Path(data)
    root = os.environ.get(VARIABLE)
    return Path(root) / task if root else None
