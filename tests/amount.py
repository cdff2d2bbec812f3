"""How much of a test runs: of random examples CI tries a third of what `scripts/test --nightly` tries."""

from __future__ import annotations

import os

NIGHTLY = "PSU_DEPLOY_NIGHTLY" in os.environ


def tries(count: int) -> int:
    """So many examples at night, a third of them in CI."""
    return count if NIGHTLY else -(-count // 3)
