"""Tasks of any size whose data is drawn when it is needed: nothing has to be fetched."""

from __future__ import annotations

from functools import partial

from psu_deploy.models import DigitsNet
from psu_deploy.training.data.delayed_recall import DelayedRecall
from psu_deploy.training.data.manifolds import RandomManifolds
from psu_deploy.training.tasks import Task


def delayed_recall(
    symbols: int = 4,
    cue: int = 2,
    delay: int = 30,
    answer: int = 4,
    noise: float = 0.05,
    samples: int = 2000,
    seed: int = 0,
) -> Task:
    """Which symbol was shown, after a delay; only what the network says in the last steps counts."""
    recall = DelayedRecall(symbols, cue, delay, answer, noise, samples, seed)
    return Task(
        read=recall.read,
        steps=recall.steps,
        input_shape=(recall.units,),
        classes=symbols,
        network=partial(DigitsNet, T=recall.steps, inputs=recall.units, classes=symbols, answer=answer),
    )


def random_manifolds(
    classes: int = 10,
    units: int = 20,
    dimensions: int = 2,
    steps: int = 50,
    alpha: float = 2.0,
    samples: int = 4000,
    seed: int = 0,
) -> Task:
    """On which random manifold a pattern of spike times lies; every unit fires once."""
    manifolds = RandomManifolds(classes, units, dimensions, steps, alpha, samples, seed)
    return Task(
        read=manifolds.read,
        steps=steps,
        input_shape=(units,),
        classes=classes,
        network=partial(DigitsNet, T=steps, inputs=units, classes=classes),
    )
