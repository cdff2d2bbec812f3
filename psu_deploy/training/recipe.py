"""A recipe: everything that decides what a training run gives, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.files.atomic import write_whole
from psu_deploy.models import CAUSAL
from psu_deploy.models.neurons import NeuronMaker
from psu_deploy.nn.neurons.estimators import MAX_LEVELS
from psu_deploy.preparation import LEVELS, TARGETS
from psu_deploy.training import recipe_json
from psu_deploy.training.checks import check_choice, check_flag, check_number, check_options, check_whole
from psu_deploy.training.networks import OWN, build_network, filled_sizes, make_neuron, takes_neuron
from psu_deploy.training.registry import Value, make_task, task_options
from psu_deploy.training.tasks import Task

EXPONENTIALS = 4
"""Terms of a sum unless somebody says otherwise."""

_MOST = {
    "epochs": 100_000,
    "batch_size": 65_536,
    "levels": MAX_LEVELS,
    "exponentials": 64,
}
"""Whole numbers from 1 to here; more is a slip of the hand, or a file that wants our memory or our time."""

_MOST_HIDDEN = 16_384
_LARGEST_SEED = 2**32 - 1
"""Of Lightning and numpy."""

OPTIMIZERS = ("adamw", "sgd")
LOSSES = ("cross_entropy", "mse")
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
SURROGATES = ("atan", "piecewise_linear", "rectangle")

PREPARABLE = tuple(name for name in CAUSAL if name != "spsn")
"""Names of the neurons that `psu_deploy.prepare` takes: one that fires at random is not among them."""


@dataclass(frozen=True)
class Recipe:
    """What to train and how. Validated when made; what is left out is filled in, so that a saved recipe says all.

    Args:
        task: what to learn, a name in `psu_deploy.training.task_names()`.
        neuron: a name in `psu_deploy.models.CAUSAL`; "own" for a network that has neurons of its own.
        hidden: neurons per spiking layer, of a network that has this size; None = what the network has by default.
        dropout: probability that a spike is dropped while training, 0 <= dropout < 1; None likewise.
        epochs: passes over the training split.
        batch_size: sequences per optimiser step, of all processes together.
        learning_rate: at its highest.
        weight_decay: of the optimiser.
        seed: of the initial weights, the order of the samples, augmentation and dropout; never of the split.
        deploy_for: a target of `psu_deploy.prepare`, "nir" or "lava": after `epochs` the network is prepared for it,
            then fine-tuned for `tuning_epochs` more; None = neither.
        levels: for "nir": steps of the staircase that `prepare` puts in, 1..255.
        exponentials: for "nir": terms of the sums that `prepare` puts in where there are T x T matrices.
        options: of the task, such as its number of steps; those left out have their defaults.
        neuron_options: arguments of the neuron's class, such as tau, threshold, bias; those left out, its defaults.
        surrogate: of the spike's gradient, "atan", "piecewise_linear" or "rectangle"; None = that of the neuron.
        optimizer: "adamw", or "sgd" with Nesterov momentum.
        momentum: of SGD.
        loss: "cross_entropy", or "mse": the mean square distance of the logits from the one-hot label.
        label_smoothing: share of the label that is spread over all classes, 0 <= share < 1; of cross-entropy.
        warmup_epochs: over which the learning rate rises in a straight line from `warmup_from`.
        warmup_from: learning rate at the first step of the warm-up.
        final_learning_rate: where the cosine ends.
        augment: whether the task's augmentation is used, where it has one.
        precision: "32-true", or the arithmetic of the layers in half precision: "bf16-mixed", "16-mixed". Neurons
            integrate and decide in float32 always.

    Raises:
        InputError: if a value has the wrong type or is out of range, or the network or the neuron does not take it.
    """

    task: str = "digits"
    neuron: str = "rpsu"
    hidden: int | None = None
    dropout: float | None = None
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.02
    weight_decay: float = 0.1
    seed: int = 0
    deploy_for: str | None = None
    levels: int = LEVELS
    exponentials: int = EXPONENTIALS
    options: dict[str, Value] = field(default_factory=dict)
    neuron_options: dict[str, Value] = field(default_factory=dict)
    surrogate: str | None = None
    optimizer: str = "adamw"
    momentum: float = 0.9
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    warmup_epochs: int = 0
    warmup_from: float = 1e-6
    final_learning_rate: float = 0.0
    augment: bool = True
    precision: Precision = "32-true"

    def __post_init__(self) -> None:
        self._check_words()
        self._check_numbers()
        self._check_target()
        check_options("options", self.options)
        check_options("neuron_options", self.neuron_options)
        self._fill("options", {**task_options(self.task), **self.options})
        task = self.make_task()
        for name, size in filled_sizes(task.network, hidden=self.hidden, dropout=self.dropout).items():
            self._fill(name, size)
        if self.hidden is not None:
            check_whole("hidden", self.hidden, 1, _MOST_HIDDEN)
        if self.dropout is not None:
            check_number("dropout", self.dropout, "at least 0 and below 1", lambda v: 0 <= v < 1)
        self._neuron(task)

    def _check_words(self) -> None:
        choices: dict[str, Iterable[str]] = {
            "neuron": (*CAUSAL, OWN),
            "optimizer": OPTIMIZERS,
            "loss": LOSSES,
            "precision": PRECISIONS,
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        if self.surrogate is not None:
            check_choice("surrogate", self.surrogate, SURROGATES)
        check_flag("augment", self.augment)

    def _check_numbers(self) -> None:
        for name, most in _MOST.items():
            check_whole(name, getattr(self, name), minimum=1, maximum=most)
        check_whole("seed", self.seed, minimum=0, maximum=_LARGEST_SEED)
        check_whole("warmup_epochs", self.warmup_epochs, minimum=0, maximum=self.epochs)
        check_number("learning_rate", self.learning_rate, "above 0", lambda v: v > 0)
        for name in ("weight_decay", "warmup_from", "final_learning_rate"):
            check_number(name, getattr(self, name), "at least 0", lambda v: v >= 0)
        for name in ("momentum", "label_smoothing"):
            check_number(name, getattr(self, name), "at least 0 and below 1", lambda v: 0 <= v < 1)
        if self.loss == "mse" and self.label_smoothing:
            raise InputError(f"label_smoothing is of cross_entropy; with mse leave it at 0, got {self.label_smoothing}")

    def _check_target(self) -> None:
        if self.deploy_for is not None:
            check_choice("deploy_for", self.deploy_for, TARGETS)
            check_choice(f"neuron, for {self.deploy_for},", self.neuron, PREPARABLE)
        if self.deploy_for == "lava" and (self.levels, self.exponentials) != (LEVELS, EXPONENTIALS):
            raise InputError(
                f"levels and exponentials are for nir; lava has a table of the sigmoid and keeps T x T matrices: leave "
                f"them at {LEVELS} and {EXPONENTIALS}, got {self.levels} and {self.exponentials}"
            )

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def make_task(self) -> Task:
        """The data set and the network it trains."""
        return make_task(self.task, self.options)

    def build_network(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator."""
        task = self.make_task()
        return build_network(task.network, self._neuron(task), hidden=self.hidden, dropout=self.dropout)

    def _neuron(self, task: Task) -> NeuronMaker | None:
        if takes_neuron(task.network) and self.neuron != OWN:
            return make_neuron(self.neuron, task.steps, self.surrogate, self.neuron_options)
        if takes_neuron(task.network):
            names = ", ".join(CAUSAL)
            raise InputError(f"the network of {self.task} has no neurons of its own; name one of {names}")
        if (self.neuron, self.surrogate, self.neuron_options) != (OWN, None, {}):
            raise InputError(
                f'the network of {self.task} has neurons of its own: neuron is "{OWN}", without options or '
                f"a surrogate, got {self.neuron!r}"
            )
        return None

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
        return recipe_json.encode(self)

    @staticmethod
    def from_json(text: str) -> Recipe:
        """Read what `to_json` wrote, now or in an earlier version: every key must be there, and no other.

        Raises:
            ArtifactError: if the text is anything else.
        """
        return recipe_json.decode(Recipe, text, "the recipe")

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
        return recipe_json.decode(Recipe, recipe_json.read(path), str(path))
