"""What every test shares: hypothesis profiles, fixed seeds, and memory that shows when it was never written."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tensors of tests are tiny: a second thread costs more than it computes

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if {"CI", "PSU_DEPLOY_REQUIRE"} & os.environ.keys() else "local")


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> Iterator[None]:
    """Fixed seed; torch.empty holds NaN, so that uninitialised memory cannot look like a result."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
