"""A machine that carries what it was made of: its recipe, and the weights of the module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy.errors import ArtifactError
from psu_deploy.machine import StateMachine
from psu_deploy.machine.storage import Attachment, load_attachment, save
from psu_deploy.preparation import prepare_structure
from psu_deploy.training import recipe_json, weights
from psu_deploy.training.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A trained network, and how it was trained.

    Args:
        recipe: what it was trained with.
        model: the network with its weights, in eval mode on the CPU.
    """

    recipe: Recipe
    model: nn.Module


def pack(machine: StateMachine, run: Run, path: Path) -> None:
    """Write a machine with the recipe and the weights of the module it was captured from."""
    arrays = {name: _floating(tensor) for name, tensor in run.model.state_dict().items()}
    save(machine, path, Attachment(run.recipe.to_json(), arrays))


def unpack(path: Path) -> Run:
    """The module that a machine was captured from.

    Raises:
        ArtifactError: if the file is no machine, or carries no module of a recipe.
    """
    attachment = load_attachment(path)
    if attachment is None:
        raise ArtifactError(
            f"{path} holds a machine but not the module it was made of; name the model.psm of a run, or its folder"
        )
    recipe = recipe_json.decode(Recipe, attachment.text, f"the recipe in {path}")
    model = unseeded_network(recipe, prepared=recipe.deploy_for is not None)
    expected = model.state_dict()
    found = {
        name: torch.from_numpy(array).to(expected[name].dtype if name in expected else torch.float32)
        for name, array in attachment.arrays.items()
    }
    weights.fill(model, found, path)
    return Run(recipe, model.eval())


def unseeded_network(recipe: Recipe, prepared: bool) -> nn.Module:
    """The recipe's network, to be filled; leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        return prepared_network(recipe) if prepared else recipe.build_network()


def prepared_network(recipe: Recipe) -> nn.Module:
    """The recipe's network in the form it has once it is prepared, with numbers that are yet to be loaded."""
    assert recipe.deploy_for is not None
    model = recipe.build_network()
    prepare_structure(model, recipe.deploy_for, recipe.levels, recipe.sums)
    return model


def _floating(tensor: Tensor) -> np.ndarray:
    """Machines are files of floating point; whole numbers below 2^53 are exact there."""
    array: np.ndarray = tensor.detach().cpu().contiguous().numpy()
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
