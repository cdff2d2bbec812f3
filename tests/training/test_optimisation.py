"""Learning rates, optimisers and losses against their formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from psu_deploy.training import Recipe
from psu_deploy.training.optimisation import learning_rate_curve, loss_of, make_optimizer


def test_without_a_warm_up_the_rate_falls_from_the_first_step() -> None:
    factor = learning_rate_curve(Recipe(epochs=3), steps=9)
    assert [factor(k) for k in range(10)] == [(1 + math.cos(math.pi * k / 9)) / 2 for k in range(10)]


def test_warm_up_and_where_it_ends() -> None:
    recipe = Recipe(epochs=10, learning_rate=0.1, warmup_epochs=2, warmup_from=0.01, final_learning_rate=0.001)
    factor = learning_rate_curve(recipe, steps=100)
    rates = np.array([recipe.learning_rate * factor(k) for k in range(101)])
    np.testing.assert_allclose(rates[:21], np.linspace(0.01, 0.1, 21))
    fall = 0.001 + 0.099 * (1 + np.cos(np.pi * np.arange(81) / 80)) / 2
    np.testing.assert_allclose(rates[20:], fall)


def test_optimisers() -> None:
    weights = [nn.Parameter(torch.ones(1))]
    adam = make_optimizer(weights, Recipe(learning_rate=0.3, weight_decay=0.2))
    assert isinstance(adam, torch.optim.AdamW)
    sgd = make_optimizer(weights, Recipe(optimizer="sgd", learning_rate=0.3, weight_decay=0.2, momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert [sgd.defaults[name] for name in ("lr", "weight_decay", "momentum", "nesterov")] == [0.3, 0.2, 0.8, True]
    assert make_optimizer(weights, Recipe(optimizer="sgd", momentum=0.0)).defaults["nesterov"] is False


def test_losses() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]]), torch.tensor([0, 2])
    wanted = torch.eye(3)[labels]
    assert float(loss_of(Recipe(loss="mse"))(logits, labels)) == pytest.approx(float(((logits - wanted) ** 2).mean()))
    log = logits.double().log_softmax(1)
    smooth = 0.9 * wanted.double() + 0.1 / 3
    expected = -(smooth * log).sum(1).mean()
    assert float(loss_of(Recipe(label_smoothing=0.1))(logits, labels)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of adamw, sgd, got 'lion'"),
        ({"loss": "mae"}, "loss must be one of cross_entropy, mse, got 'mae'"),
        ({"precision": "8-true"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, got '8-true'"),
        ({"surrogate": "sigmoid"}, "surrogate must be one of atan, piecewise_linear, rectangle, got 'sigmoid'"),
        ({"warmup_epochs": 31}, "warmup_epochs must be at most 30, got 31"),
        ({"momentum": 1.0}, "momentum must be a number at least 0 and below 1, got 1.0"),
        ({"loss": "mse", "label_smoothing": 0.1}, "label_smoothing is of cross_entropy; with mse leave it at 0"),
        ({"augment": 1}, "augment must be true or false, got 1"),
        ({"neuron_options": {"tua": 2.0}}, "rpsu has the options tau, threshold, .*; got tua"),
        ({"neuron_options": {"tau": 0.5}}, "tau is a number of steps and must be at least 1"),
        ({"neuron_options": {"tau": "x"}}, "rpsu cannot be made with the options .*tau"),
        ({"neuron_options": {"bias": 1}}, "the option bias of rpsu must be true or false, got 1"),
        ({"neuron": "masked_psn", "neuron_options": {"threshold": 1.0}}, "masked_psn has no threshold"),
        ({"neuron": "spsn", "surrogate": "atan"}, "spsn fires at random and has no surrogate"),
    ],
)
def test_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)  # type: ignore[arg-type]
