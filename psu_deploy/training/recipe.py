"""A recipe: everything that decides what a training run gives, as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.files.atomic import write_whole
from psu_deploy.files.limits import OBJECT, check_memory, regular_size
from psu_deploy.models import CAUSAL
from psu_deploy.nn.neurons.estimators import MAX_LEVELS
from psu_deploy.preparation import LEVELS, TARGETS
from psu_deploy.training.registry import make_task, task_names
from psu_deploy.training.tasks import Task

FORMAT = "psu-deploy.recipe"
VERSION = 2
_NEW_IN_2 = {"deploy_for", "levels", "exponentials"}
"""A recipe of version 1 has the defaults there."""

EXPONENTIALS = 4
"""Terms of a sum unless somebody says otherwise."""

_MOST = {
    "hidden": 16_384,
    "epochs": 100_000,
    "batch_size": 65_536,
    "levels": MAX_LEVELS,
    "exponentials": 64,
}
"""Whole numbers from 1 to here; more is a slip of the hand, or a file that wants our memory or our time."""

_LARGEST_NUMBER = 1e9
"""Of rates, in size."""

_LARGEST_SEED = 2**32 - 1
"""Of Lightning and numpy."""

PREPARABLE = tuple(name for name in CAUSAL if name != "spsn")
"""Names of the neurons that `psu_deploy.prepare` takes: one that fires at random is not among them."""


@dataclass(frozen=True)
class Recipe:
    """What to train and how. Validated when made.

    Args:
        task: what to learn, "digits".
        neuron: a name in `psu_deploy.models.CAUSAL`.
        hidden: neurons per spiking layer.
        dropout: probability that a spike is dropped while training, 0 <= dropout < 1.
        epochs: passes over the training split.
        batch_size: sequences per optimiser step.
        learning_rate: of AdamW at the first step; falls to 0 along half a cosine.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the samples and dropout; never of the split.
        deploy_for: a target of `psu_deploy.prepare`, "nir" or "lava": after `epochs` the network is prepared for it,
            then fine-tuned for `tuning_epochs` more; None = neither.
        levels: for "nir": steps of the staircase that `prepare` puts in, 1..255.
        exponentials: for "nir": terms of the sums that `prepare` puts in where there are T x T matrices.

    Raises:
        InputError: if a value has the wrong type or is out of range.
    """

    task: str = "digits"
    neuron: str = "rpsu"
    hidden: int = 128
    dropout: float = 0.2
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.02
    weight_decay: float = 0.1
    seed: int = 0
    deploy_for: str | None = None
    levels: int = LEVELS
    exponentials: int = EXPONENTIALS

    def __post_init__(self) -> None:
        _check_choice("task", self.task, task_names())
        _check_choice("neuron", self.neuron, CAUSAL)
        for name, most in _MOST.items():
            _check_whole(name, getattr(self, name), minimum=1, maximum=most)
        _check_whole("seed", self.seed, minimum=0, maximum=_LARGEST_SEED)
        _check_number("dropout", self.dropout, "at least 0 and below 1", lambda v: 0 <= v < 1)
        _check_number("learning_rate", self.learning_rate, "above 0", lambda v: v > 0)
        _check_number("weight_decay", self.weight_decay, "at least 0", lambda v: v >= 0)
        if self.deploy_for is not None:
            _check_choice("deploy_for", self.deploy_for, TARGETS)
            _check_choice(f"neuron, for {self.deploy_for},", self.neuron, PREPARABLE)
        if self.deploy_for == "lava" and (self.levels, self.exponentials) != (LEVELS, EXPONENTIALS):
            raise InputError(
                f"levels and exponentials are for nir; lava has a table of the sigmoid and keeps T x T matrices: leave "
                f"them at {LEVELS} and {EXPONENTIALS}, got {self.levels} and {self.exponentials}"
            )

    def make_task(self) -> Task:
        """The data set and the network."""
        return make_task(self.task, {})

    @property
    def sums(self) -> int | None:
        """`exponentials` for `psu_deploy.prepare`: None for a target that keeps T x T matrices."""
        wanted = self.deploy_for is not None and "exponentials" not in TARGETS[self.deploy_for].unused
        return self.exponentials if wanted else None

    @property
    def tuning_epochs(self) -> int:
        """Passes over the training split after `prepare`: as many as before it; 0 without `deploy_for`."""
        return 0 if self.deploy_for is None else self.epochs

    def to_json(self) -> str:
        """The recipe as a JSON object, one key per argument."""
        return json.dumps({"format": FORMAT, "version": VERSION} | asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> Recipe:
        """Read what `to_json` wrote, now or in an earlier version: every key must be there, and no other.

        Raises:
            ArtifactError: if the text is anything else.
        """
        return _decode(text, "the recipe")

    def save(self, path: str | Path) -> Path:
        """Write the recipe to a file, whole or not at all."""
        write_whole(path, self.to_json().encode())
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Recipe:
        """Read a recipe from a file written by `save`.

        Raises:
            ArtifactError: if the file is missing or is anything else.
        """
        try:
            size = regular_size(path, "the recipe ")
            check_memory(OBJECT * size, 0, f"{path}: a recipe of {size} bytes")
            return _decode(Path(path).read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ArtifactError(f"cannot read the recipe {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path} is malformed: it is not UTF-8 text") from error


def _decode(text: str, where: str) -> Recipe:
    values = _json_object(text, where)
    expected = {"format", "version"} | {field.name for field in fields(Recipe)}
    expected -= _NEW_IN_2 if values.get("version") == 1 else set()
    missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
    if missing or unknown:
        raise ArtifactError(f"{where} does not have exactly the keys of a recipe: missing {missing}, unknown {unknown}")
    found = values.pop("format"), values.pop("version")
    if found not in ((FORMAT, 1), (FORMAT, VERSION)):
        raise ArtifactError(f"{where} has format and version {found}, expected {(FORMAT, VERSION)}")
    try:
        return Recipe(**values)
    except InputError as error:
        raise ArtifactError(f"{where} is malformed: {error}") from error


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is malformed: it is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{where} is malformed: expected a JSON object, got {type(values).__name__}")
    return values


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {_short(value)}")


def _check_whole(name: str, value: Any, minimum: int, maximum: int) -> None:
    if type(value) is not int or value < minimum:
        raise InputError(f"{name} must be a whole number of at least {minimum}, got {_short(value)}")
    if value > maximum:
        raise InputError(f"{name} must be at most {maximum}, got {_short(value)}")


def _short(value: Any) -> str:
    """A value for a message; one of a file may be longer than any."""
    return repr(value)[:80]


def _check_number(name: str, value: Any, allowed: str, inside: Callable[[float], bool]) -> None:
    if type(value) not in (int, float) or not inside(value) or abs(value) == math.inf:
        raise InputError(f"{name} must be a number {allowed}, got {_short(value)}")
    if not abs(value) < _LARGEST_NUMBER:
        raise InputError(f"{name} must be below {_LARGEST_NUMBER:g}, got {_short(value)}")


RECIPES = {f"digits-{neuron}": Recipe(task="digits", neuron=neuron) for neuron in CAUSAL}
"""Recipes that are known to work, by name."""
