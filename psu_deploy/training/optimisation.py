"""Optimiser, learning rate and loss of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psu_deploy.training.recipe import Recipe


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay, nesterov=nesterov)


def learning_rate_curve(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """The factor of `learning_rate` at step k: a straight warm-up of w steps, then half a cosine.

        k < w:   (f_0 + (1 - f_0) k / w)                               f_0 = warmup_from / learning_rate
        k >= w:  f_1 + (1 - f_1) (1 + cos(pi (k - w) / (steps - w))) / 2   f_1 = final_learning_rate / learning_rate

    Args:
        recipe: gives the learning rates, and how many of its epochs warm up.
        steps: optimiser steps of all epochs.
    """
    warm = round(steps * recipe.warmup_epochs / recipe.epochs)
    first = recipe.warmup_from / recipe.learning_rate
    last = recipe.final_learning_rate / recipe.learning_rate

    def factor(step: int) -> float:
        if step < warm:
            return first + (1.0 - first) * step / warm
        fallen = (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2.0
        return last + (1.0 - last) * fallen

    return factor


def loss_of(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits (B, classes), labels (B,)) -> loss ()."""
    if recipe.loss == "mse":
        return lambda logits, labels: F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))
    return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
