import signal
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def _heed_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, pytest included."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
