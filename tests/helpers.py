"""The mathematics of the neurons in float64 numpy, written from the equations: full T x T matrices, no recurrences.

    V = A I + b,  E = A_R I + b_r,  R = B estimator(E),  S = Theta(V - R - V_th)

LIF, PLIF and SPSN are no matrices: loops over their equations.

Nothing in the oracles calls the package; the last functions run what is under test and compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from psu_deploy.capture import to_state_machine, trace_module
from psu_deploy.nn.containers import Lift
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PPSU, PSU, RPSU, SPSN, MaskedPSN, Neuron, SlidingPSN

Array = NDArray[np.float64]

ROUNDING = {"rtol": 1e-11, "atol": 1e-11}
"""Two orders of summation of a few hundred float64 products of size 1 differ by 1e-14 at most; slack included."""

ORDER = 3
"""Band of the sliding and of the masked neuron under test."""

SEED = 3
"""Of the noise of the neuron that fires at random."""


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
        return V, R, decide(V - R - self.threshold, self.fire_on)

    def margin(self, current: Array) -> Array:
        """What decides."""
        V, R, _ = self(current)
        return V - R - self.threshold


def decide(margin: Array, fire_on: str) -> Array:
    """Spikes as 0.0 and 1.0."""
    return (margin >= 0 if fire_on == ">=" else margin > 0).astype(np.float64)


@dataclass(frozen=True)
class RawLIF:
    """Leaky integrate-and-fire, neuron by neuron and step by step: V counts from the reset potential."""

    tau: float
    threshold: float
    reset: str
    decay_input: bool
    fire_on: str

    def __call__(self, current: Array) -> tuple[Array, Array, Array]:
        """H, 0 and S of every step."""
        V, potentials, spikes = np.zeros_like(current[0]), [], []
        for drive in current:
            H = V * (1 - 1 / self.tau) + (drive / self.tau if self.decay_input else drive)
            S = decide(H - self.threshold, self.fire_on)
            V = H - self.threshold * S if self.reset == "soft" else np.where(S > 0, 0.0, H)
            potentials.append(H)
            spikes.append(S)
        return np.stack(potentials), np.zeros_like(current), np.stack(spikes)

    def margin(self, current: Array) -> Array:
        """What decides."""
        return self(current)[0] - self.threshold


@dataclass(frozen=True)
class RawSPSN:
    """Fires where sigmoid(V) is more than the noise; V without reset."""

    A: Array
    seed: int

    def __call__(self, current: Array) -> tuple[Array, Array, Array]:
        """V, 0 and S of every step."""
        return apply(self.A, current), np.zeros_like(current), decide(self.margin(current), ">")

    def margin(self, current: Array) -> Array:
        """What decides."""
        return sigmoid(apply(self.A, current)) - noise(self.seed, current.shape)


def noise(seed: int, shape: tuple[int, ...], first_step: int = 0) -> Array:
    """The counter-based generator in Python's own integers: five rounds of a fifth power modulo a prime."""
    prime, per_step = 2**31 - 1, int(np.prod(shape[1:]))
    numbers = []
    for step in range(first_step, first_step + shape[0]):
        for h in range(per_step):
            for key in (0x3C6EF372, step, 0x1B873593, seed, 0x27D4EB2F):
                h = pow(h + key, 5, prime)
            numbers.append((h >> 7) / 2**24)
    return np.array(numbers).reshape(shape)


Raw = RawNeuron | RawLIF | RawSPSN


@dataclass(frozen=True)
class NeuronCase:
    """One neuron under test, and its mathematics.

    Args:
        name: shown by pytest.
        build: (T, tau, threshold) -> module.
        raw: (T, tau, threshold, W, b) -> matrices or loop; W, b are learned numbers that were drawn at random.
        learned: name of the operator that holds W and b; None where nothing is learned.
        with_bias: whether b is learned.
    """

    name: str
    build: Callable[[int, float, float], Neuron]
    raw: Callable[[int, float, float, Array, Array], Raw]
    learned: str | None = None
    with_bias: bool = False

    @property
    def unbounded(self) -> bool:
        """Whether it runs for any number of steps."""
        return self.learned is None or self.name == "sliding_psn"

    def make(self, T: int, tau: float = 2.0, threshold: float = 1.0, seed: int = 0) -> tuple[Neuron, Raw]:
        """The module in float64 and eval form with random learned numbers, and its mathematics."""
        random = np.random.default_rng(seed)
        W = np.tril(random.normal(0.2, 0.8, (T, T)))
        b = random.normal(0.0, 0.5, T) if self.with_bias else np.zeros(T)
        neuron = self.build(T, tau, threshold).double().eval()
        if isinstance(neuron, PLIF):
            nn.init.constant_(neuron.w, -np.log(tau - 1))  # 1/tau = sigmoid(w), now in float64
        if isinstance(neuron, SlidingPSN):
            weights, bias = random.normal(0.2, 0.8, ORDER), random.normal(-1.0, 0.5)
            with torch.no_grad():
                neuron.integrate.weight.copy_(torch.from_numpy(weights))
                neuron.integrate.step_bias.fill_(bias)
            W, b = toeplitz(T, weights), np.full(T, bias)
        elif isinstance(neuron, MaskedPSN):
            W = random.normal(0.2, 0.8, (T, T))  # the masked half holds numbers too
            neuron.integrate.set_matrix(W, b)
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


def _masked(order: Callable[[int], int]) -> Callable[[int, float, float, Array, Array], RawNeuron]:
    """What lies more than `order` steps back is masked; W itself is full."""

    def raw(T: int, tau: float, threshold: float, W: Array, b: Array) -> RawNeuron:
        nothing = np.zeros((T, T))
        band = np.where((lag_matrix(T) >= 0) & (lag_matrix(T) < order(T)), W, 0.0)
        return RawNeuron(band, b, nothing, np.zeros(T), nothing, sigmoid, 0.0, ">=")

    return raw


def _lif(reset: str, decay_input: bool, fire_on: str = ">=") -> Callable[[int, float, float, Array, Array], RawLIF]:
    return lambda T, tau, threshold, W, b: RawLIF(tau, threshold, reset, decay_input, fire_on)


def _raw_spsn(T: int, tau: float) -> RawSPSN:
    return RawSPSN(leak_matrix(T, 1 / tau, 1 - 1 / tau), SEED)


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
    NeuronCase("masked_psn", lambda T, tau, th: MaskedPSN(T), _masked(lambda T: T), "integrate", True),
    NeuronCase(
        "masked_psn_banded",
        lambda T, tau, th: MaskedPSN(T, min(ORDER, T)),
        _masked(lambda T: ORDER),
        "integrate",
        True,
    ),
)
"""Every neuron that is matrices along time and has a serial form."""

SPSN_CASE = NeuronCase("spsn", lambda T, tau, th: SPSN(tau, seed=SEED), lambda T, tau, *_: _raw_spsn(T, tau))

LOOPS = (
    NeuronCase("lif", lambda T, tau, th: LIF(tau, th), _lif("hard", True)),
    NeuronCase("lif_soft", lambda T, tau, th: LIF(tau, th, reset="soft", fire_on=">"), _lif("soft", True, ">")),
    NeuronCase("lif_undivided", lambda T, tau, th: LIF(tau, th, decay_input=False), _lif("hard", False)),
    NeuronCase(
        "lif_undivided_soft",
        lambda T, tau, th: LIF(tau, th, decay_input=False, reset="soft"),
        _lif("soft", False),
    ),
    NeuronCase("plif", lambda T, tau, th: PLIF(3.0, th), _lif("hard", True)),
    NeuronCase(
        "plif_undivided_soft",
        lambda T, tau, th: PLIF(3.0, th, decay_input=False, reset="soft", fire_on=">"),
        _lif("soft", False, ">"),
    ),
    SPSN_CASE,
)
"""Neurons that feed their spikes back, or fire at random."""

EVERY_NEURON = NEURONS + LOOPS
"""Every neuron that has a serial form. A test of neurons runs on all of them."""


def currents(T: int, B: int, features: tuple[int, ...], seed: int = 0) -> Array:
    """Random input currents that make some neurons fire and some not."""
    return np.random.default_rng(seed).normal(1.0, 4.0, (T, B, *features))


def joined(y, axis=2):
    """What a network gives as one array: that of its only output, or several one behind the other along an axis."""
    if not isinstance(y, dict):
        return y
    return np.concatenate([part.reshape(*part.shape[:axis], -1) for part in y.values()], axis)


def step_by_step(machine, x, state=None):
    """Outputs of a machine that is fed one step at a time, and its last state."""
    state = machine.initial_state(x.shape[1]) if state is None else state
    outputs = []
    for x_t in x:
        y_t, state = machine.step(x_t, state)
        outputs.append(y_t)
    stack = torch.stack if isinstance(x, torch.Tensor) else np.stack
    if isinstance(outputs[0], dict):
        return {name: stack([y[name] for y in outputs]) for name in outputs[0]}, state
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


def axes_of(x, lead):
    """Axes of a tensor: time and batch as given, then one per feature axis."""
    return (*lead, *((size,) for size in x.shape[len(lead) :]))


def linear(*sizes):
    return Lift(nn.Linear(*sizes))


def spikes_by_hook(model, x):
    """What a model and its neuron layers give, seen by our own hooks: output, and spikes in the order of the calls."""
    seen = []
    neurons = [module for module in model.modules() if isinstance(module, Neuron)]
    handles = [neuron.register_forward_hook(lambda module, inputs, output: seen.append(output)) for neuron in neurons]
    with torch.no_grad():
        output = model(x)
    for handle in handles:
        handle.remove()
    return output, seen


def enlivened(net, data, bias=1.0):
    """A network that fires, with BatchNorm statistics that are not the ones it was born with."""
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.constant_(norm.weight, 3.0)
        nn.init.constant_(norm.bias, bias)
    for _ in range(5):
        net(data())
    return net


def followed_by_silence(x, steps):
    """What a person does with a machine that answers late: feed it zeros until the last answer is out."""
    return torch.cat([x, x.new_zeros(steps, *x.shape[1:])])


def on_time(machine, trace, T):
    """And drop the answers that came before the first: every layer's T rows, each lagging by its own latency."""

    def rows(values, lags):
        return {name: value[lags[name] :][:T] for name, value in values.items()}

    parts = {name: rows(getattr(trace, name), machine.latencies) for name in ("spikes", "potential", "reset", "margin")}
    return replace(trace, output=trace.output[machine.latency :], **parts)


def check_capture(model, features, T=7, B=3, seed=0, **options):
    """The captured machine equals the module in float64: every spike exactly, every real number but for rounding.

    Returns:
        The machine.
    """
    model = model.double().eval()
    machine = to_state_machine(model, features, **options)
    x = torch.from_numpy(np.random.default_rng(seed).normal(0.5, 2.0, (T, B, *features)))
    output, spikes = spikes_by_hook(model, x.clone())  # a module may change its input
    trace = on_time(machine, machine.trace(followed_by_silence(x, machine.latency)), T)
    serial = trace.output if output.ndim == trace.output.ndim else trace.output[-1]
    np.testing.assert_allclose(serial, output, **ROUNDING)
    assert len(machine.spiking) == len(spikes)
    for name, expected in zip(machine.spiking, spikes, strict=True):
        np.testing.assert_array_equal(trace.spikes[name], expected, err_msg=f"spikes of layer {name}")
    ours = trace_module(model, machine, x.clone())
    assert list(ours.spikes) == list(machine.spiking)
    for name in machine.spiking:
        assert torch.equal(ours.spikes[name], trace.spikes[name])
        np.testing.assert_allclose(ours.potential[name], trace.potential[name], **ROUNDING)
        np.testing.assert_allclose(ours.reset[name], trace.reset[name], **ROUNDING)
        np.testing.assert_allclose(ours.margin[name], trace.margin[name], **ROUNDING)
    return machine
