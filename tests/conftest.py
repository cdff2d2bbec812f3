"""What every test shares: hypothesis profiles, fixed seeds, and memory that shows when it was never written."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from zlib import crc32

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tensors of tests are tiny: a second thread costs more than it computes

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if {"CI", "PSU_DEPLOY_REQUIRE"} & os.environ.keys() else "local")


_CACHE = tempfile.mkdtemp(prefix="psu-deploy-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["PSU_DEPLOY_CACHE"] = _CACHE  # not the user's own; for the processes that tests start too


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> Iterator[None]:
    """Fixed seed; torch.empty holds NaN, so that uninitialised memory cannot look like a result."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


ROWS = 1
"""Of a test with many parameters so many rows are in --fast; CI runs every row."""


SLOW = {"lava_python", "trained"}
"""Fixtures that start Lava or train a network."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The other rows, and what needs a slow fixture, are marked `full`: before they are selected by mark."""
    rows = defaultdict(list)
    for item in items:
        rows[item.nodeid.partition("[")[0]].append(item)
    for same in rows.values():
        same.sort(key=lambda item: crc32(item.nodeid.encode()))
        for item in same[0 if SLOW & set(getattr(same[0], "fixturenames", ())) else ROWS :]:
            item.add_marker(pytest.mark.full)
