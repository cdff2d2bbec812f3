"""The mathematics of the neurons in float64 numpy, written from the equations: full T x T matrices, no recurrences.

    V = A I + b,  E = A_R I + b_r,  R = B estimator(E),  S = Theta(V - R - V_th)

Nothing in the oracles calls the package; the last functions run what is under test and compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from psu_deploy.capture import to_state_machine, trace_module
from psu_deploy.network import Lift
from psu_deploy.neurons import IPSU, PPSU, PSU, RPSU, SlidingPSN, SpikingUnit

Array = NDArray[np.float64]

ROUNDING = {"rtol": 1e-11, "atol": 1e-11}
"""Two orders of summation of a few hundred float64 products of size 1 differ by 1e-14 at most; slack included."""

ORDER = 3
"""Band of the sliding neuron under test."""


def lag_matrix(T: int) -> Array:
    """i - j."""
    return np.arange(T, dtype=np.float64)[:, None] - np.arange(T)[None, :]


def leak_matrix(T: int, gain: float, decay: float) -> Array:
    """A[i, j] = gain * decay**(i - j) for i >= j."""
    lag = lag_matrix(T)
    return np.where(lag >= 0, gain * np.power(float(decay), np.maximum(lag, 0)), 0.0)


def strict_leak_matrix(T: int, gain: float, decay: float) -> Array:
    """B[i, j] = gain * decay**(i - j) for i > j."""
    return leak_matrix(T, gain, decay) - gain * np.eye(T)


def toeplitz(T: int, weights: Array) -> Array:
    """A[i, j] = weights[i - j]."""
    return sum((w * np.eye(T, k=-lag) for lag, w in enumerate(weights)), np.zeros((T, T)))


def apply(matrix: Array, x: Array) -> Array:
    """Product along time of a (T, T) matrix and a sequence (T, B, ...)."""
    return (matrix @ x.reshape(len(x), -1)).reshape(x.shape)


def per_step(bias: Array, x: Array) -> Array:
    """(T,) -> (T, 1, ...), to be added to a sequence like x."""
    return bias.reshape(-1, *[1] * (x.ndim - 1))


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


@dataclass(frozen=True)
class RawNeuron:
    """A neuron as plain matrices."""

    A: Array
    b: Array
    A_R: Array
    b_r: Array
    B: Array
    estimator: Callable[[Array], Array]
    threshold: float
    fire_on: str

    def __call__(self, current: Array) -> tuple[Array, Array, Array]:
        """V, R and S of every step."""
        V = apply(self.A, current) + per_step(self.b, current)
        E = apply(self.A_R, current) + per_step(self.b_r, current)
        R = apply(self.B, self.estimator(E))
        margin = V - R - self.threshold
        fired = margin >= 0 if self.fire_on == ">=" else margin > 0
        return V, R, fired.astype(np.float64)


@dataclass(frozen=True)
class NeuronCase:
    """One neuron under test, and its matrices.

    Args:
        name: shown by pytest.
        build: (T, tau, threshold) -> module.
        raw: (T, tau, threshold, W, b) -> matrices; W, b are learned numbers that were drawn at random.
        learned: name of the operator that holds W and b; None where nothing is learned.
        with_bias: whether b is learned.
    """

    name: str
    build: Callable[[int, float, float], SpikingUnit]
    raw: Callable[[int, float, float, Array, Array], RawNeuron]
    learned: str | None = None
    with_bias: bool = False

    @property
    def unbounded(self) -> bool:
        """Whether it runs for any number of steps."""
        return self.learned is None or self.name == "sliding_psn"

    def make(self, T: int, tau: float = 2.0, threshold: float = 1.0, seed: int = 0) -> tuple[SpikingUnit, RawNeuron]:
        """The module in float64 with random learned numbers, and its matrices."""
        random = np.random.default_rng(seed)
        W = np.tril(random.normal(0.2, 0.8, (T, T)))
        b = random.normal(0.0, 0.5, T) if self.with_bias else np.zeros(T)
        neuron = self.build(T, tau, threshold).double()
        if isinstance(neuron, SlidingPSN):
            weights, bias = random.normal(0.2, 0.8, ORDER), random.normal(-1.0, 0.5)
            with torch.no_grad():
                neuron.integrate.weight.copy_(torch.from_numpy(weights))
                neuron.integrate.step_bias.fill_(bias)
            W, b = toeplitz(T, weights), np.full(T, bias)
        elif self.learned is not None:
            operator = getattr(neuron, self.learned)
            operator.set_matrix(torch.from_numpy(W), torch.from_numpy(b) if self.with_bias else None)
        return neuron, self.raw(T, tau, threshold, W, b)

    def __str__(self) -> str:
        return self.name


def _paper(kind: str) -> Callable[[int, float, float, Array, Array], RawNeuron]:
    """Eq. 4-12: leak (1/tau) (1 - 1/tau)^k, reset V_th (1 - 1/tau)^k."""

    def raw(T: int, tau: float, threshold: float, W: Array, b: Array) -> RawNeuron:
        A = leak_matrix(T, 1 / tau, 1 - 1 / tau)
        B = strict_leak_matrix(T, threshold, 1 - 1 / tau)
        none = np.zeros(T)
        integrate = (A, none) if kind in ("PSU", "RPSU") else (W, b)
        estimate = {"PSU": (A, none), "IPSU": (A, none), "RPSU": (W, b), "PPSU": (W, b)}[kind]
        return RawNeuron(*integrate, *estimate, B, sigmoid, threshold, ">=")

    return raw


def _coded(kind: str) -> Callable[[int, float, float, Array, Array], RawNeuron]:
    """The authors' code: (1/tau)^(k + 1) and (1/tau)^k, fires on > only; reset scaled by V_th in PSU alone."""

    def raw(T: int, tau: float, threshold: float, W: Array, b: Array) -> RawNeuron:
        A = leak_matrix(T, 1 / tau, 1 / tau)
        B = strict_leak_matrix(T, threshold if kind == "PSU" else 1.0, 1 / tau)
        none = np.zeros(T)
        if kind == "IPSU":
            return RawNeuron(W, b, np.eye(T), none, B, lambda current: current, threshold, ">")
        integrate = (A, none) if kind in ("PSU", "RPSU") else (W, b)
        estimate = (A, none) if kind == "PSU" else (W, b)
        return RawNeuron(*integrate, *estimate, B, sigmoid, threshold, ">")

    return raw


def _sliding(T: int, tau: float, threshold: float, W: Array, b: Array) -> RawNeuron:
    nothing = np.zeros((T, T))
    return RawNeuron(W, b, nothing, np.zeros(T), nothing, sigmoid, 0.0, ">=")


def _as_coded(tau: float) -> dict[str, object]:
    return {"decay": 1 / tau, "bias": True, "reset_gain": 1.0, "fire_on": ">", "init": "kaiming"}


NEURONS = (
    NeuronCase("psu", lambda T, tau, th: PSU(tau, th), _paper("PSU")),
    NeuronCase("psu_coded", lambda T, tau, th: PSU(tau, th, decay=1 / tau, fire_on=">"), _coded("PSU")),
    NeuronCase("ipsu", lambda T, tau, th: IPSU(T, tau, th), _paper("IPSU"), "integrate"),
    NeuronCase("ipsu_bias", lambda T, tau, th: IPSU(T, tau, th, bias=True), _paper("IPSU"), "integrate", True),
    NeuronCase(
        "ipsu_coded",
        lambda T, tau, th: IPSU(T, tau, th, reset_input="current", **_as_coded(tau)),
        _coded("IPSU"),
        "integrate",
        True,
    ),
    NeuronCase("ppsu", lambda T, tau, th: PPSU(T, tau, th), _paper("PPSU"), "integrate"),
    NeuronCase("ppsu_coded", lambda T, tau, th: PPSU(T, tau, th, **_as_coded(tau)), _coded("PPSU"), "integrate", True),
    NeuronCase("rpsu", lambda T, tau, th: RPSU(T, tau, th), _paper("RPSU"), "estimate"),
    NeuronCase("rpsu_bias", lambda T, tau, th: RPSU(T, tau, th, bias=True), _paper("RPSU"), "estimate", True),
    NeuronCase("rpsu_coded", lambda T, tau, th: RPSU(T, tau, th, **_as_coded(tau)), _coded("RPSU"), "estimate", True),
    NeuronCase("sliding_psn", lambda T, tau, th: SlidingPSN(ORDER), _sliding, "integrate", True),
)
"""Every neuron that has a serial form. A test of neurons runs on all of them."""


def currents(T: int, B: int, features: tuple[int, ...], seed: int = 0) -> Array:
    """Random input currents that make some neurons fire and some not."""
    return np.random.default_rng(seed).normal(1.0, 4.0, (T, B, *features))


def step_by_step(machine, x, state=None):
    """Outputs of a machine that is fed one step at a time, and its last state."""
    state = machine.initial_state(x.shape[1]) if state is None else state
    outputs = []
    for x_t in x:
        y_t, state = machine.step(x_t, state)
        outputs.append(y_t)
    stack = torch.stack if isinstance(x, torch.Tensor) else np.stack
    return stack(outputs), state


class Forward(nn.Module):
    """A module out of its parts and its forward."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.call(self, x)


def linear(*sizes):
    return Lift(nn.Linear(*sizes))


def spikes_by_hook(model, x):
    """What a model and its neuron layers give, seen by our own hooks: output, and spikes in the order of the calls."""
    seen = []
    neurons = [module for module in model.modules() if isinstance(module, SpikingUnit)]
    handles = [neuron.register_forward_hook(lambda module, inputs, output: seen.append(output)) for neuron in neurons]
    with torch.no_grad():
        output = model(x)
    for handle in handles:
        handle.remove()
    return output, seen


def check_capture(model, features, T=7, B=3, seed=0, **options):
    """The captured machine equals the module in float64: every spike exactly, every real number but for rounding.

    Returns:
        The machine.
    """
    model = model.double().eval()
    machine = to_state_machine(model, features, **options)
    x = torch.from_numpy(np.random.default_rng(seed).normal(0.5, 2.0, (T, B, *features)))
    output, spikes = spikes_by_hook(model, x)
    trace = machine.trace(x)
    serial = trace.output if output.ndim == trace.output.ndim else trace.output[-1]
    np.testing.assert_allclose(serial, output, **ROUNDING)
    assert len(machine.spiking) == len(spikes)
    for name, expected in zip(machine.spiking, spikes, strict=True):
        np.testing.assert_array_equal(trace.spikes[name], expected, err_msg=f"spikes of layer {name}")
    ours = trace_module(model, machine, x)
    assert list(ours.spikes) == list(machine.spiking)
    for name in machine.spiking:
        assert torch.equal(ours.spikes[name], trace.spikes[name])
        np.testing.assert_allclose(ours.potential[name], trace.potential[name], **ROUNDING)
        np.testing.assert_allclose(ours.reset[name], trace.reset[name], **ROUNDING)
        np.testing.assert_allclose(ours.margin[name], trace.margin[name], **ROUNDING)
    return machine
