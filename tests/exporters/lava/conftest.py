"""The interpreter with Lava, for tests that run it."""

from __future__ import annotations

import os

import pytest

from psu_deploy.errors import MissingExtraError
from psu_deploy.exporters.lava import environment


@pytest.fixture(scope="session")
def lava_python():
    """Without one the tests are skipped, aloud; unless "lava" is said to be there."""
    try:
        return environment.find().python
    except MissingExtraError as error:
        if "lava" in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(","):
            raise
        pytest.skip(f"NOTHING WAS RUN IN LAVA: {error}")
