"""Stochastic Parallelizable Spiking Neuron: no reset, fires at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons.base import Neuron, at_least_single, check_sequence
from psu_deploy.nn.temporal import Leak
from psu_deploy.numerics.checks import check_number
from psu_deploy.numerics.noise import PRIME, uniform

__all__ = ["SPSN"]


class SPSN(Neuron):
    """Fires with probability sigmoid(V), independently at every step.

        V = A I,   P(S = 1) = sigmoid(V)

    While training, spikes are drawn with torch's generator, and the gradient passes through the draw as if S were its
    probability (straight-through): dS/dV = sigmoid'(V). In eval mode they are drawn from `psu_deploy.numerics.noise`, a
    function of seed, step, sample and neuron, so that the module, its state machine and its exports draw the same.
    What the network means are its firing probabilities; another seed is another sample of them.

    Serial form: one number of state per neuron and a step counter, any number of steps.

    Args:
        tau: membrane time constant in steps, >= 1.
        decay: factor per step of V; None = `1 - 1/tau`.
        gain: factor of the input current; None = `1/tau`.
        seed: of the noise in eval mode, >= 0; None draws one with torch's generator. Saved with the parameters.

    Reference: Yarga and Wood, arXiv 2306.12666; as in arXiv 2402.00449 (one leak, no synaptic filter).

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.

    >>> neuron = SPSN(tau=2.0, seed=0).eval()
    >>> x = torch.zeros(6, 1, 1)  # fires half the time
    >>> neuron(x).flatten()
    tensor([0., 0., 0., 1., 0., 1.])
    >>> torch.equal(neuron(x), neuron(x))  # the same noise every time
    True
    """

    seed_buffer: Tensor

    def __init__(
        self, tau: float = 2.0, *, decay: float | None = None, gain: float | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        check_number("tau", tau)
        if not 1.0 <= tau < math.inf:
            raise InputError(f"tau is a number of steps and must be at least 1, got {tau}")
        if seed is not None and (not isinstance(seed, int) or not 0 <= seed < PRIME):
            raise InputError(f"seed must be a whole number in 0..{PRIME - 1}, got {seed!r}")
        self.tau = float(tau)
        drawn = torch.randint(PRIME, ()) if seed is None else torch.tensor(seed)
        self.register_buffer("seed_buffer", drawn)
        self.integrate = Leak(1.0 / tau if gain is None else gain, 1.0 - 1.0 / tau if decay is None else decay)
        self.estimate = None
        self.reset = None
        self.estimator = nn.Sigmoid()
        self.threshold = 0.0
        self.fire_on = ">"

    @property
    def seed(self) -> int:
        """Of the noise in eval mode."""
        return int(self.seed_buffer)

    def potentials(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """V, and zero."""
        check_sequence(x)
        with torch.autocast(x.device.type, enabled=False):
            potential: Tensor = self.integrate(at_least_single(x))
        return potential, torch.zeros_like(potential)

    def margin(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V, 0, and the probability less the noise of eval mode, which decides."""
        potential, reset = self.potentials(x)
        return potential, reset, torch.sigmoid(potential) - self._noise(potential)

    def forward(self, x: Tensor) -> Tensor:
        potential, _ = self.potentials(x)
        probability = torch.sigmoid(potential)
        noise = torch.rand_like(probability) if self.training else self._noise(probability)
        spikes = (probability > noise).to(probability.dtype)
        return (spikes + (probability - probability.detach())).to(x.dtype)

    def _noise(self, like: Tensor) -> Tensor:
        batch, features = like.shape[1], tuple(like.shape[2:])
        return torch.stack([uniform(self.seed_buffer, t, batch, features, like=like) for t in range(len(like))])

    def extra_repr(self) -> str:
        seed = "unknown" if self.seed_buffer.is_meta else self.seed
        return f"tau={self.tau:g}, seed={seed}"
