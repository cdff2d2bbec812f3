"""Delayed recall: a symbol is shown, nothing follows for a long time, and then it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_sizes
from psu_deploy.training.data.drawn import ORDER, generator, size
from psu_deploy.training.samples import Samples, Split


@dataclass(frozen=True)
class DelayedRecall:
    """A sequence of spikes per sample. Validated when made.

        step                0 .. cue-1         cue .. cue+delay-1    cue+delay .. T-1
        its symbol's unit   fires              silent                silent
        last unit           silent             silent                fires: now is the time to answer
        all other units     silent             silent                silent
        noise               turns every entry over with this probability, at every step

    A network that forgets in less than `delay` steps can only guess.

    Args:
        symbols: how many there are; one unit each, and a class each.
        cue: steps that the symbol is shown.
        delay: steps without anything.
        answer: steps in which the network is to answer.
        noise: probability that an entry is turned over, at least 0 and below 0.5.
        samples: of the training split; validation and test have a quarter of them each.
        seed: of all draws.

    Raises:
        InputError: if a number is out of range.
    """

    symbols: int
    cue: int
    delay: int
    answer: int
    noise: float
    samples: int
    seed: int

    def __post_init__(self) -> None:
        check_sizes(symbols=self.symbols, cue=self.cue, answer=self.answer, samples=self.samples)
        if self.delay < 0:
            raise InputError(f"delay is a number of steps and must be at least 0, got {self.delay}")
        if not 0.0 <= self.noise < 0.5:
            raise InputError(f"noise is a probability and must be at least 0 and below 0.5, got {self.noise}")
        generator(self.seed)

    @property
    def steps(self) -> int:
        """T."""
        return self.cue + self.delay + self.answer

    @property
    def units(self) -> int:
        """One for every symbol, and one that asks."""
        return self.symbols + 1

    def read(self, split: Split, folder: Path | None) -> Samples:
        """Spikes (N, T, symbols + 1) of bytes, and labels (N,)."""
        draw = generator(self.seed, ORDER.index(split))
        count = size(split, self.samples)
        labels = draw.integers(0, self.symbols, count)
        spikes = np.zeros((count, self.steps, self.units), bool)
        spikes[np.arange(count), : self.cue, labels] = True
        spikes[:, self.cue + self.delay :, -1] = True
        spikes ^= draw.random(spikes.shape) < self.noise
        return Samples(spikes.astype(np.uint8), labels.astype(np.int64))
