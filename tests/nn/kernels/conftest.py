"""Fused whatever the size, and the same step by step."""

from __future__ import annotations

import pytest

from psu_deploy.nn.kernels import choice


@pytest.fixture(autouse=True)
def _fused(monkeypatch):
    monkeypatch.setattr(choice, "FORCED", "numba")
