"""The page as its readers get it: light and dark, on a desk and on a phone, by eye, keyboard and ear."""

from __future__ import annotations

import os

import pytest

from tests.report import browser

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", autouse=True)
def _tools():
    """Without them the tests are skipped, aloud; unless "browser" is said to be there."""
    missing = browser.missing()
    if missing and "browser" not in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(","):
        pytest.skip(f"NOBODY LOOKED AT report.html: {missing} is not installed; scripts/browser installs it")
    assert not missing


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_has_nothing_to_object(text, dark, tmp_path):
    assert browser.violations(text, tmp_path, dark) == []


def test_it_fits_every_window(text, tmp_path):
    for window, width in browser.widths(text, tmp_path, 320, 1280):
        assert width <= window
