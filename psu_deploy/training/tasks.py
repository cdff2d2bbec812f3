"""What can be trained: data and a network that fits it, under one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from psu_deploy.models import digits as digits_model
from psu_deploy.training import data


@dataclass(frozen=True)
class Task:
    """Data and a network that fits it.

    Args:
        arrays: split -> x (T, N, *input_shape) float32 and labels (N,) int64.
        model: (neuron, hidden, dropout) -> network from (T, B, *input_shape) to logits (B, classes).
        input_shape: features of one time step.
    """

    arrays: Callable[[data.Split], data.Arrays]
    model: Callable[[str, int, float], nn.Module]
    input_shape: tuple[int, ...]


TASKS = {"digits": Task(data.digits, digits_model.DigitsNet, digits_model.INPUT_SHAPE)}
