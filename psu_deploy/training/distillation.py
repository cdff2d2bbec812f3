"""Fine-tune a network to answer as another one does, and count where its spikes differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from psu_deploy.nn.neurons.base import Neuron
from psu_deploy.training.optimisation import loss_of
from psu_deploy.training.recipe import Recipe

TEMPERATURE = 2.0
"""Divides the logits before they are compared: what the original thinks of the other classes counts, too."""

_BATCH = 64


def distilling(teacher: nn.Module, recipe: Recipe, weight: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss of a network that has the labels and a teacher: (sequences, logits, labels) -> ().

        L = (1 - w) L_recipe(y, label) + w D(y, y')                 y, y': logits of the network and of the teacher
        D = theta^2 KL(softmax(y' / theta) || softmax(y / theta))   with cross-entropy, theta = 2
        D = mean((y - y')^2)                                        with mse

    Args:
        teacher: the original; put in eval mode, never trained.
        recipe: gives the loss of the labels.
        weight: w, in 0..1.

    Reference: Hinton, Vinyals and Dean, arXiv 1503.02531, section 2.
    """
    teacher = teacher.eval().requires_grad_(requires_grad=False)
    labelled = loss_of(recipe)

    def distance(logits: Tensor, wanted: Tensor) -> Tensor:
        if recipe.loss == "mse":
            return F.mse_loss(logits, wanted)
        mine, theirs = (F.log_softmax(y / TEMPERATURE, dim=1) for y in (logits, wanted))
        return TEMPERATURE**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)

    def loss(x: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        teacher.to(x.device)
        with torch.no_grad():
            wanted = teacher(x)
        return (1.0 - weight) * labelled(logits, labels) + weight * distance(logits, wanted)

    return loss


def flip_rate(first: nn.Module, second: nn.Module, x: NDArray[np.float32]) -> float:
    """Share of the spikes, neuron by neuron and step by step, that two networks of the same layers decide differently.

    Args:
        first: in eval mode.
        second: in eval mode.
        x: sequences (T, N, *features).
    """
    differ = total = 0
    with torch.no_grad():
        for start in range(0, x.shape[1], _BATCH):
            part = torch.from_numpy(np.ascontiguousarray(x[:, start : start + _BATCH]))
            for mine, theirs in zip(_spikes(first, part), _spikes(second, part), strict=True):
                differ += int((mine != theirs).sum())
                total += mine.numel()
    return differ / total


def _spikes(network: nn.Module, x: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    hooks = [neuron.register_forward_hook(lambda _module, _inputs, spikes: found.append(spikes)) for neuron in neurons]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found
