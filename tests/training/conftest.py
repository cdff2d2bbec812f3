from dataclasses import dataclass
from pathlib import Path

import pytest

from psu_deploy.training import Recipe, RunResult, train

SMALL = Recipe(hidden=16, epochs=2)


@dataclass(frozen=True)
class Trained:
    recipe: Recipe
    folder: Path
    result: RunResult


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run of two epochs; look, don't touch."""
    folder = tmp_path_factory.mktemp("run") / "rpsu"
    return Trained(SMALL, folder, train(SMALL, folder, device="cpu", progress=False))
