"""A target with a bug in it, installed for this process and for those it starts."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from psu_deploy.exporters import plugins

PLANTED = Path(__file__).with_name("planted")


@pytest.fixture
def planted(monkeypatch):
    """Plant a bug, or several with commas between them."""
    monkeypatch.syspath_prepend(str(PLANTED))
    monkeypatch.setattr(plugins, "entry_points", cache(entry_points))  # they are looked up for every file
    monkeypatch.setenv("PYTHONPATH", str(PLANTED))
    return lambda bug: monkeypatch.setenv("PSU_PLANTED", bug)
