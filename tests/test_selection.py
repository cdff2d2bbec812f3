"""Which rows of a test a run makes: those that the marks select, and no others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = """
import pytest

TEN = pytest.mark.parametrize("n", range(10))

def test_one(): pass

@TEN
@pytest.mark.parametrize("m", "ab")
def test_plain(n, m): pass

@TEN
@pytest.mark.full
def test_slow(n): pass

@TEN
@pytest.mark.rows(7)
def test_seven(n): pass

@pytest.fixture(params=range(10))
def kind(request): pass

@pytest.mark.rows(2)
class TestTwo:
    def test_of_a_fixture(self, kind): pass
"""
FEW = {"test_one": 1, "test_plain": 3, "test_slow": 2, "test_seven": 7, "test_of_a_fixture": 2}
ALL = {"test_one": 1, "test_plain": 20, "test_slow": 10, "test_seven": 10, "test_of_a_fixture": 10}


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The ids of a run with this `-m`, and how many were made in all."""
    folder = tmp_path_factory.mktemp("selection")
    shutil.copy(Path(__file__).parent / "conftest.py", folder)
    shutil.copy(Path(__file__).parents[1] / "pyproject.toml", folder)
    (folder / "test_rows.py").write_text(TESTS)

    def collect(speed: str) -> tuple[list[str], str]:
        command = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", speed, "test_rows.py"]
        done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stdout
        lines = done.stdout.splitlines()
        return [line for line in lines if "::" in line], lines[-1]

    return collect


def counted(ids: list[str]) -> dict[str, int]:
    return dict(Counter(name.rpartition("::")[2].partition("[")[0] for name in ids))


@pytest.mark.full
def test_what_ci_runs(collected):
    """In other words the marks alone select, of all rows."""
    ids, made = collected("not nightly")
    by_marks, _ = collected("not (nightly)")
    assert counted(ids) == FEW
    assert ids == by_marks
    assert made.startswith(f"{sum(FEW.values())} tests collected")


@pytest.mark.full
def test_all_day_one_row_of_what_is_quick(collected):
    ids, _ = collected("not full and not nightly")
    by_marks, _ = collected("not (full) and not (nightly)")
    assert counted(ids) == dict.fromkeys(set(FEW) - {"test_slow"}, 1)
    assert ids == by_marks


@pytest.mark.full
def test_nightly_runs_all(collected):
    ids, _ = collected("")
    assert counted(ids) == ALL
