"""The serial form of every neuron: equal to its T x T matrices, in any chunks, from pure steps."""

from __future__ import annotations

import copy
import weakref
from math import prod

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import HorizonError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PSU, SlidingPSN
from tests.helpers import (
    EVERY_NEURON,
    LOOPS,
    ORDER,
    ROUNDING,
    SPSN_CASE,
    NeuronCase,
    RawNeuron,
    currents,
    leak_matrix,
    sigmoid,
    step_by_step,
    strict_leak_matrix,
)

every_neuron = pytest.mark.parametrize("case", EVERY_NEURON, ids=str)


def machine_of(
    case: NeuronCase, T: int, features: tuple[int, ...] = (3,), **parameters
) -> tuple[StateMachine, RawNeuron]:
    neuron, raw = case.make(T, **parameters)
    return to_state_machine(neuron, features), raw


@pytest.mark.full
@pytest.mark.rows(8)
@every_neuron
@pytest.mark.parametrize(("tau", "threshold"), [(1.5, 1.0), (2.0, 0.5), (4.0, 0.3)])
@pytest.mark.parametrize("T", [1, 2, 7, 63])
def test_equals_the_matrices(case: NeuronCase, tau, threshold, T):
    for B, features in [(1, (1,)), (3, (1,)), (1, (7,)), (3, (2, 3))]:
        machine, raw = machine_of(case, T, features, tau=tau, threshold=threshold)
        current = currents(T, B, features)
        V, R, S = raw(current)
        trace = machine.trace(current)
        (name,) = machine.spiking
        np.testing.assert_array_equal(machine.run(current), S)
        np.testing.assert_array_equal(trace.output, S)
        np.testing.assert_array_equal(trace.spikes[name], S)
        np.testing.assert_allclose(trace.potential[name], V, **ROUNDING)
        np.testing.assert_allclose(trace.reset[name], R, **ROUNDING)
        np.testing.assert_allclose(trace.margin[name], raw.margin(current), **ROUNDING)


@pytest.mark.rows(20)
@every_neuron
@pytest.mark.parametrize("current", [0.0, 1e3, -1e3])
def test_silent_and_saturated(case: NeuronCase, current):
    machine, raw = machine_of(case, 40)
    constant = np.full((40, 2, 3), current)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(machine.run(constant), raw(constant)[2])


def linear_ipsu(fire_on):
    """IPSU as the authors coded it: V[t] = 2 x[t], R[t] = sum_{s<t} x[s] / 2**(t-s)."""
    neuron = IPSU(3, 2.0, 1.0, reset_input="current", reset_gain=1.0, fire_on=fire_on)
    neuron.integrate.set_matrix(2 * torch.eye(3))
    return neuron


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
@pytest.mark.parametrize(
    ("unit", "currents", "fires"),
    [
        (lambda fire_on: PSU(2.0, 1.0, fire_on=fire_on), [0.0, 2.5], [False, True]),
        (lambda fire_on: SlidingPSN(2, fire_on=fire_on), [1.0, 0.5, 0.75], [True, True, True]),
        (linear_ipsu, [0.5, 0.625, 0.71875], [True, True, True]),
        (lambda fire_on: LIF(2.0, 1.0, fire_on=fire_on), [1.0, 1.5], [False, True]),
        (lambda fire_on: PLIF(2.0, 1.0, decay_input=False, fire_on=fire_on), [0.5, 0.75], [False, True]),
    ],
    ids=["psu", "sliding_psn", "ipsu_coded", "lif", "plif_undivided"],
)
def test_ties(unit, currents, fires, fire_on, spike):
    """Dyadic numbers make margins of exactly zero, in float32 too; where it fires at all depends on fire_on."""
    machine = to_state_machine(unit(fire_on), (1,))
    for dtype in (np.float32, np.float64):
        trace = machine.trace(np.array(currents, dtype)[:, None, None])
        (margin,) = trace.margin.values()
        assert (margin.ravel() == 0).tolist() == fires
        assert trace.output.ravel().tolist() == [spike if tie else 0.0 for tie in fires]


@pytest.mark.rows(30)
@every_neuron
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_run_is_steps_is_chunks(case: NeuronCase, dtype, kind):
    T = 11
    machine, _ = machine_of(case, T)
    x = kind(currents(T, 2, (3,)).astype(dtype))
    whole = machine.run(x)
    assert type(whole) is type(x)
    assert whole.dtype == x.dtype
    for cut in (1, 4, 10):
        head, state = step_by_step(machine, x[:cut])
        tail = machine.run(x[cut:], state)
        assert np.array_equal(head, whole[:cut])
        assert np.array_equal(tail, whole[cut:])


@every_neuron
def test_numpy_and_torch_agree(case: NeuronCase):
    machine, _ = machine_of(case, 9)
    x = currents(9, 2, (3,))
    assert np.array_equal(machine.run(x), machine.run(torch.from_numpy(x)).numpy())
    x = x.astype(np.float32)
    assert np.array_equal(machine.run(x), machine.run(torch.from_numpy(x)).numpy())


@every_neuron
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_step_is_pure(case: NeuronCase, kind):
    machine, _ = machine_of(case, 6)
    x = kind(currents(6, 2, (3,)))
    state = {name: kind(value) for name, value in machine.initial_state(2, "float64").items()}
    for x_t in x:
        x_before, before = copy.deepcopy(x_t), copy.deepcopy(state)
        once, after = machine.step(x_t, state)
        again, after_again = machine.step(x_t, state)
        assert np.array_equal(x_t, x_before)
        assert all(np.array_equal(state[name], before[name]) for name in state)
        assert np.array_equal(once, again)
        assert all(np.array_equal(after[name], after_again[name]) for name in after)
        state = after


@pytest.mark.parametrize("case", [c for c in EVERY_NEURON if c is not SPSN_CASE], ids=str)
def test_samples_do_not_see_each_other(case: NeuronCase):
    machine, _ = machine_of(case, 8)
    x = currents(8, 3, (3,))
    for sample in range(3):
        assert np.array_equal(machine.run(x[:, sample : sample + 1]), machine.run(x)[:, sample : sample + 1])


LEAKS = {"psu": 2, "psu_coded": 2, "ipsu": 2, "ipsu_bias": 2, "ipsu_coded": 1, "ppsu": 1, "ppsu_coded": 1}
LEAKS |= {"rpsu": 2, "rpsu_bias": 2, "rpsu_coded": 2, "sliding_psn": 0, "masked_psn": 0, "masked_psn_banded": 0}
LEAKS |= {case.name: 1 for case in LOOPS}
"""Numbers of state per neuron besides those of the learned operator."""


@every_neuron
@pytest.mark.parametrize("T", [1, 2, 10])
def test_size_of_the_state(case: NeuronCase, T):
    machine, _ = machine_of(case, T, (2, 3))
    per_neuron = sum(prod(s.shape) for s in machine.state_spec.values() if s.batched) / 6
    band = min(ORDER, T) if case.name == "masked_psn_banded" else T
    learned = 0 if case.learned is None else ORDER - 1 if case.unbounded else band - 1
    assert per_neuron == LEAKS[case.name] + learned
    assert machine.horizon == (None if case.unbounded else T)
    assert ("step" in machine.state_spec) == (not case.unbounded or case is SPSN_CASE)


@pytest.mark.parametrize("case", [c for c in EVERY_NEURON if not c.unbounded], ids=str)
def test_ends_at_the_horizon(case: NeuronCase):
    machine, _ = machine_of(case, 4)
    x = currents(5, 2, (3,))
    with pytest.raises(
        HorizonError, match=r"x has 5 steps \(axis 0\) but the machine's horizon is 4; cut the sequence"
    ):
        machine.run(x)
    _, state = step_by_step(machine, x[:4])
    with pytest.raises(HorizonError, match=r"step 5 is past the horizon: .* 4 steps; reset and start a new window"):
        machine.step(x[4], state)
    with pytest.raises(HorizonError, match="step 5 is past the horizon"):
        machine.run(x[:1], state)


@pytest.mark.parametrize("case", [c for c in EVERY_NEURON if c.unbounded], ids=str)
def test_runs_for_ever(case: NeuronCase):
    machine, raw = machine_of(case, 300)
    x = currents(300, 1, (3,))
    np.testing.assert_array_equal(machine.run(x), raw(x)[2])


class AliveTensors(TorchDispatchMode):
    """Counts how many tensors of one shape are alive at the same time."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.made, self.most = shape, [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and tuple(result.shape) == self.shape:
            self.made.append(weakref.ref(result))
            self.most = max(self.most, sum(made() is not None for made in self.made))
        return result


@pytest.mark.full
@pytest.mark.parametrize("call", ["run", "trace"])
@pytest.mark.parametrize(
    "case", [c for c in EVERY_NEURON if not c.unbounded and c.name != "masked_psn_banded"], ids=str
)
def test_old_states_are_forgotten(case: NeuronCase, call):
    """A state of T - 1 numbers per neuron and step, kept for T steps, would be T times the sequence."""
    machine, _ = machine_of(case, 30, (5,))
    x = torch.from_numpy(currents(30, 2, (5,)))
    with AliveTensors((2, 29, 5)) as alive:
        getattr(machine, call)(x)
    assert len(alive.made) >= 30
    assert alive.most < 10


NEURON = {
    "integrate": ops.Leak(0.5, 0.5),
    "estimate": None,
    "estimator": ops.Sigmoid(),
    "reset": ops.StrictLeak(1.0, 0.5),
    "threshold": 0.5,
    "fire_on": ">=",
}


def by_hand(integrate, estimate, estimator, reset, threshold=0.5, fire_on=">="):
    neuron = ops.SpikingNeuron(integrate, estimate, estimator, reset, threshold, fire_on)
    return StateMachine((Node("n", neuron, ("x",)),), (2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("thresholds", [[0.25], [-1.5, 0.0, 0.25], np.arange(15) - 7.25])
def test_a_tie_at_a_threshold_counts(thresholds, dtype):
    """Whole heights and no leak: R grows by the number of thresholds reached, in any precision exactly."""
    stairs = ops.Staircase(np.array(thresholds), 1.0, 0.0)
    machine = by_hand(ops.Identity(), None, stairs, ops.StrictLeak(1.0, 1.0))
    at = np.array(thresholds, dtype)
    near = [np.nextafter(at, dtype(-np.inf)), at, np.nextafter(at, dtype(np.inf))]
    x = np.zeros((len(at) + 1, 1, 2, 3), dtype)
    x[:-1] = np.stack(near, 1)[:, None, None]
    reset = machine.trace(x).reset["n"]
    assert reset.dtype == dtype
    assert np.diff(reset[:, 0, 1], axis=0).tolist() == [[k, k + 1, k + 1] for k in range(len(at))]


def test_a_staircase_climbs_over_any_layout_of_memory():
    stairs = ops.Staircase(np.array([-1.0, 1.0]), 1.0, 0.0)
    machine = by_hand(ops.Identity(), None, stairs, ops.StrictLeak(1.0, 1.0))
    x = torch.from_numpy(currents(5, 2, (2, 3)))
    scattered = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not scattered[0].is_contiguous()
    assert torch.equal(machine.trace(scattered).reset["n"], machine.trace(x).reset["n"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_at_every_place(dtype):
    """And one float before and behind it; in any precision exactly."""
    machine = by_hand(ops.Identity(), None, ops.SigmoidTable(), ops.StrictLeak(1.0, 1.0))
    at = (np.arange(-8200, 8200) / 1024).astype(dtype)
    near = np.stack([np.nextafter(at, dtype(-np.inf)), at, np.nextafter(at, dtype(np.inf))], 1)
    x = np.zeros((2, len(at), 2, 3), dtype)
    x[0] = near[:, None]
    place = np.clip(np.floor(near.astype(np.float64) * 1024), -8192, 8191) + 8192
    knots = np.rint(4096 / (1 + np.exp(8 - np.arange(65) / 4)))
    piece = (place // 256).astype(int)
    value = (knots[piece] + np.floor((knots[piece + 1] - knots[piece]) * (place % 256) / 256)) / 4096
    reset = machine.trace(x).reset["n"]
    assert reset.dtype == dtype
    np.testing.assert_array_equal(reset[1, :, 1], value)


ESTIMATORS = [ops.Sigmoid(), ops.RawCurrent(), ops.Staircase([0], 1, 0), ops.SigmoidTable()]


class TestWhatTheEstimatorSaw:
    """`Trace.estimate` is E, before the estimator."""

    current = currents(7, 2, (2, 3))

    def estimate(self, layer):
        trace = StateMachine((Node("n", layer, ("x",)),), (2, 3)).trace(self.current)
        return trace, trace.estimate["n"]

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_an_estimate_of_its_own(self, estimator):
        layer = NEURON | {"estimate": ops.Leak(2.0, 0.3), "estimator": estimator}
        _, found = self.estimate(ops.SpikingNeuron(**layer))
        lag = np.subtract.outer(np.arange(7), np.arange(7))
        A = np.where(lag >= 0, 2.0 * 0.3 ** np.maximum(lag, 0), 0.0)
        np.testing.assert_allclose(found, np.einsum("ts,s...->t...", A, self.current), **ROUNDING)

    def test_the_potential(self):
        trace, found = self.estimate(ops.SpikingNeuron(**NEURON))
        np.testing.assert_array_equal(found, trace.potential["n"])
        assert found.any()

    @pytest.mark.parametrize(
        "layer",
        [
            ops.SpikingNeuron(ops.Identity(), None, ops.Sigmoid(), None, 0.5, ">="),
            ops.LIFNeuron(2.0, True, 0.5, "hard", ">="),
            ops.BernoulliNeuron(ops.Identity(), 0),
        ],
    )
    def test_nothing_without_a_reset(self, layer):
        trace, found = self.estimate(layer)
        np.testing.assert_array_equal(found, np.zeros_like(trace.potential["n"]))


class TestOperatorsByHand:
    """Operators that no built-in neuron uses in this place, against their matrices."""

    T = 9
    current = currents(9, 2, (2, 3))
    none = np.zeros(9)

    def check(self, machine: StateMachine, raw: RawNeuron) -> None:
        V, R, S = raw(self.current)
        trace = machine.trace(self.current)
        np.testing.assert_allclose(trace.potential["n"], V, **ROUNDING)
        np.testing.assert_allclose(trace.reset["n"], R, **ROUNDING)
        np.testing.assert_array_equal(trace.spikes["n"], S)
        chunked, state = step_by_step(machine, self.current[:5])
        np.testing.assert_array_equal(np.concatenate([chunked, machine.run(self.current[5:], state)]), S)

    def test_exponentials_everywhere(self):
        gains, decays = np.array([1.0, -0.5]), np.array([0.9, 0.3])
        A = sum(leak_matrix(self.T, g, d) for g, d in zip(gains, decays, strict=True))
        machine = by_hand(
            ops.Exponentials(gains, decays),
            ops.Exponentials(decays, gains.clip(0)),
            ops.Sigmoid(),
            ops.StrictLeak(1.0, 0.5),
        )
        A_R = leak_matrix(self.T, 0.9, 1.0) + leak_matrix(self.T, 0.3, 0.0)
        B = strict_leak_matrix(self.T, 1.0, 0.5)
        self.check(machine, RawNeuron(A, self.none, A_R, self.none, B, sigmoid, 0.5, ">="))
        assert machine.state_spec["n.V"].shape == (2, 2, 3)

    @pytest.mark.parametrize("order", [1, 2, 4])
    def test_band(self, order):
        random = np.random.default_rng(0)
        columns, bias = random.standard_normal((self.T, order)), random.standard_normal(self.T)
        A = np.zeros((self.T, self.T))
        for t, lag in np.ndindex(self.T, order):
            if t + lag < self.T:
                A[t + lag, t] = columns[t, lag]
        window = ops.Window(columns, bias, time_invariant=False)
        nothing = np.zeros_like(A)
        raw = RawNeuron(A, bias, nothing, self.none, nothing, sigmoid, 0.5, ">=")
        self.check(by_hand(window, None, ops.Sigmoid(), None), raw)

    def test_no_estimate_looks_at_the_potential(self):
        A, B = leak_matrix(self.T, 0.5, 0.5), strict_leak_matrix(self.T, 2.0, 0.9)
        leak, reset = ops.Leak(0.5, 0.5), ops.StrictLeak(2.0, 0.9)
        for estimator, function in [(ops.Sigmoid(), sigmoid), (ops.RawCurrent(), lambda v: v)]:
            raw = RawNeuron(A, self.none, A, self.none, B, function, 0.5, ">")
            self.check(by_hand(leak, None, estimator, reset, fire_on=">"), raw)

    def test_a_bias_of_exponentials(self):
        gains, decays = np.array([1.0, -0.5]), np.array([0.9, 0.3])
        A = sum(leak_matrix(self.T, g, d) for g, d in zip(gains, decays, strict=True))
        B, bias = strict_leak_matrix(self.T, 1.0, 0.5), np.full(self.T, 0.8)
        biased, reset = ops.Exponentials(gains, decays, 0.8), ops.StrictLeak(1.0, 0.5)
        raw = RawNeuron(A, bias, A, bias, B, sigmoid, 0.5, ">=")
        self.check(by_hand(biased, biased, ops.Sigmoid(), reset), raw)

    @pytest.mark.parametrize("steps", [1, 15, 63])
    @pytest.mark.parametrize("looks_at_potential", [True, False])
    def test_staircase(self, steps, looks_at_potential):
        thresholds = np.sort(np.random.default_rng(steps).normal(0.0, 3.0, steps))
        stairs, height, offset = ops.Staircase(thresholds, 2.0 / steps, -0.3), 2.0 / steps, -0.3

        def climb(E):
            return offset + height * sum((threshold <= E).astype(float) for threshold in thresholds)

        A, B = leak_matrix(self.T, 0.5, 0.5), strict_leak_matrix(self.T, 2.0, 0.9)
        A_R = A if looks_at_potential else leak_matrix(self.T, 1.0, 0.2)
        leak, reset = ops.Leak(0.5, 0.5), ops.StrictLeak(2.0, 0.9)
        estimate = None if looks_at_potential else ops.Leak(1.0, 0.2)
        self.check(by_hand(leak, estimate, stairs, reset), RawNeuron(A, self.none, A_R, self.none, B, climb, 0.5, ">="))

    def test_identity(self):
        eye, nothing = np.eye(self.T), np.zeros((self.T, self.T))
        raw = RawNeuron(eye, self.none, nothing, self.none, nothing, sigmoid, 0.5, ">=")
        machine = by_hand(ops.Identity(), None, ops.Sigmoid(), None)
        self.check(machine, raw)
        assert machine.state_spec == {}
