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
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports a compiler, two seconds
    yield
    torch.set_deterministic_debug_mode("default")


SLOW = {"lava_python", "trained"}
"""Fixtures that start Lava or train a network."""


ROWS, SLOW_ROWS = 3, 2
"""Of a test without that mark; of one that is marked `full`."""


def _rows(test: pytest.Item) -> int:
    """How many rows of a test CI runs."""
    mark = test.get_closest_marker("rows")
    return int(mark.args[0]) if mark else SLOW_ROWS if test.get_closest_marker("full") else ROWS


def _order(nodeid: str) -> int:
    """Which rows come first: the same ones every time, of every parameter."""
    return crc32(nodeid.encode())


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Rows that a run leaves out are not made: there are twenty thousand, and every worker collects all."""
    yield
    speed = metafunc.config.option.markexpr
    if "not nightly" in speed:
        name = metafunc.definition.nodeid
        rows = sorted(metafunc._calls, key=lambda row: _order(f"{name}[{row.id}]"))
        left = set(map(id, rows[1 if "not full" in speed else _rows(metafunc.definition) :]))
        metafunc._calls[:] = [row for row in metafunc._calls if id(row) not in left]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with many rows of parameters, --fast runs one, CI as many as its mark `rows` says.

    Marked before they are selected by mark.
    """
    tests = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    for rows in tests.values():
        rows.sort(key=lambda item: _order(item.nodeid))
        slow = SLOW & set(getattr(rows[0], "fixturenames", ()))
        for item in rows[_rows(rows[0]) :]:
            item.add_marker(pytest.mark.nightly)
        for item in rows[0 if slow else 1 :]:
            item.add_marker(pytest.mark.full)
