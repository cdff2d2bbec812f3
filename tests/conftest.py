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
from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if {"CI", "PSU_DEPLOY_REQUIRE"} & os.environ.keys() else "local")


_CACHE = tempfile.mkdtemp(prefix="psu-deploy-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["PSU_DEPLOY_CACHE"] = _CACHE  # not the user's own; for the processes that tests start too


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> Iterator[None]:
    """Fixed seed; torch.empty holds NaN, so that uninitialised memory cannot look like a result."""
    import torch  # by the workers only: what hands the tests out starts two seconds earlier

    torch.set_num_threads(1)  # the tensors of tests are tiny: a second thread costs more than it computes
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


SLOW = {"lava_python", "trained"}
"""Fixtures that start Lava or train a network."""


ROWS = 6
"""Of a test without that mark."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with many rows of parameters, --fast runs one, CI as many as its mark `rows` says.

    By their hash, so that it is the same ones every time, of every parameter. Marked before they are selected by mark.
    """
    tests = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    for rows in tests.values():
        rows.sort(key=lambda item: crc32(item.nodeid.encode()))
        slow = SLOW & set(getattr(rows[0], "fixturenames", ()))
        for item in rows[0 if slow else 1 :]:
            item.add_marker(pytest.mark.full)
        mark = rows[0].get_closest_marker("rows")
        for item in rows[mark.args[0] if mark else ROWS :]:
            item.add_marker(pytest.mark.nightly)
