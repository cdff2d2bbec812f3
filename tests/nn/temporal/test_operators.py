"""Causal operators: both forms against the closed form of the matrix, in float64 numpy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.nn.temporal import (
    CausalMatrix,
    CausalOperator,
    Exponentials,
    Identity,
    Leak,
    MaskedMatrix,
    SlidingWindow,
    StrictLeak,
)
from tests.helpers import (
    ROUNDING,
    Array,
    apply,
    lag_matrix,
    leak_matrix,
    per_step,
    sigmoid,
    strict_leak_matrix,
    toeplitz,
)


@dataclass(frozen=True)
class OperatorCase:
    """An operator under test: `make(T)` gives it in float64 with its matrix and bias."""

    name: str
    make: Callable[[int], tuple[CausalOperator, Array, Array]]

    def __str__(self) -> str:
        return self.name


def fixed(operator: Callable[[], CausalOperator], matrix: Callable[[int], Array]):
    return lambda T: (operator(), matrix(T), np.zeros(T))


def learned(order: int | None, bias: bool):
    def make(T: int) -> tuple[CausalOperator, Array, Array]:
        random = np.random.default_rng(T)
        k = T if order is None else min(order, T)
        lag = lag_matrix(T)
        matrix = np.where((lag >= 0) & (lag < k), random.standard_normal((T, T)), 0.0)
        numbers = random.standard_normal(T) if bias else np.zeros(T)
        operator = CausalMatrix(T, order=k, bias=bias).double()
        operator.set_matrix(torch.from_numpy(matrix), torch.from_numpy(numbers) if bias else None)
        return operator, matrix, numbers

    return make


def masked(order: int | None):
    """W is full; what is outside the band must not count."""

    def make(T: int) -> tuple[CausalOperator, Array, Array]:
        random = np.random.default_rng(T)
        k, lag = T if order is None else min(order, T), lag_matrix(T)
        matrix, numbers = random.standard_normal((T, T)), random.standard_normal(T)
        operator = MaskedMatrix(T, k).double()
        operator.set_matrix(matrix, numbers)
        return operator, np.where((lag >= 0) & (lag < k), matrix, 0.0), numbers

    return make


def sliding(order: int, bias: bool):
    def make(T: int) -> tuple[CausalOperator, Array, Array]:
        weights = np.random.default_rng(order).standard_normal(order)
        operator = SlidingWindow(order, bias=bias).double()
        with torch.no_grad():
            operator.weight.copy_(torch.from_numpy(weights))
            if bias:
                operator.step_bias.fill_(-0.7)
        return operator, toeplitz(T, weights), np.full(T, -0.7 if bias else 0.0)

    return make


def exponentials(T: int, bias: float | None = None) -> tuple[CausalOperator, Array, Array]:
    operator = Exponentials([0.5, -1.0, 2.0], [0.9, 0.5, 0.01], bias).double()
    gains, decays = operator.gains.detach().numpy(), sigmoid(operator.decay_logits.detach().numpy())
    np.testing.assert_allclose(decays, [0.9, 0.5, 0.01], rtol=1e-6)  # parameters are float32 at first
    matrix = sum(leak_matrix(T, gain, decay) for gain, decay in zip(gains, decays, strict=True))
    return operator, matrix, np.full(T, bias or 0.0)


OPERATORS = (
    OperatorCase("identity", fixed(Identity, np.eye)),
    OperatorCase("leak", fixed(lambda: Leak(0.5, 0.5), lambda T: leak_matrix(T, 0.5, 0.5))),
    OperatorCase("leak_slow", fixed(lambda: Leak(-0.3, 0.97), lambda T: leak_matrix(T, -0.3, 0.97))),
    OperatorCase("leak_forgets", fixed(lambda: Leak(2.0, 0.0), lambda T: leak_matrix(T, 2.0, 0.0))),
    OperatorCase("leak_keeps", fixed(lambda: Leak(0.1, 1.0), lambda T: leak_matrix(T, 0.1, 1.0))),
    OperatorCase("strict_leak", fixed(lambda: StrictLeak(1.0, 0.5), lambda T: strict_leak_matrix(T, 1.0, 0.5))),
    OperatorCase("strict_leak_slow", fixed(lambda: StrictLeak(-3, 0.9), lambda T: strict_leak_matrix(T, -3, 0.9))),
    OperatorCase("strict_leak_forgets", fixed(lambda: StrictLeak(2, 0), lambda T: strict_leak_matrix(T, 2, 0))),
    OperatorCase("matrix", learned(None, bias=False)),
    OperatorCase("matrix_bias", learned(None, bias=True)),
    OperatorCase("band", learned(3, bias=False)),
    OperatorCase("band_bias", learned(3, bias=True)),
    OperatorCase("diagonal", learned(1, bias=True)),
    OperatorCase("sliding", sliding(4, bias=False)),
    OperatorCase("sliding_bias", sliding(4, bias=True)),
    OperatorCase("sliding_one", sliding(1, bias=True)),
    OperatorCase("exponentials", exponentials),
    OperatorCase("exponentials_bias", lambda T: exponentials(T, bias=-0.75)),
    OperatorCase("masked", masked(None)),
    OperatorCase("masked_band", masked(3)),
    OperatorCase("masked_diagonal", masked(1)),
)

every_operator = pytest.mark.parametrize("case", OPERATORS, ids=str)


def sequence(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@every_operator
@pytest.mark.parametrize("T", [1, 2, 7, 63])
def test_matrix_and_bias(case: OperatorCase, T):
    operator, matrix, bias = case.make(T)
    for got, expected in [(operator.matrix(T), matrix), (operator.bias(T), bias)]:
        assert got.dtype == torch.float64
        assert not got.requires_grad
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=0)


@pytest.mark.rows(50)
@every_operator
@pytest.mark.parametrize("T", [1, 2, 7, 63])
@pytest.mark.parametrize("features", [(), (1,), (5,), (2, 3)])
def test_parallel_form(case: OperatorCase, T, features):
    operator, matrix, bias = case.make(T)
    x = sequence(T, 3, *features)
    expected = apply(matrix, x) + per_step(bias, x)
    y = operator(torch.from_numpy(x)).detach()
    assert y.shape == x.shape
    np.testing.assert_allclose(y, expected, **ROUNDING)


@every_operator
def test_fewer_steps_than_the_horizon(case: OperatorCase):
    operator, matrix, bias = case.make(9)
    x = sequence(5, 2, 3)
    expected = apply(matrix[:5, :5], x) + per_step(bias[:5], x)
    np.testing.assert_allclose(operator(torch.from_numpy(x)).detach(), expected, **ROUNDING)
    np.testing.assert_allclose(operator.matrix(5), matrix[:5, :5], **ROUNDING)
    np.testing.assert_allclose(operator.bias(5), bias[:5], **ROUNDING)


def run_serially(operator: CausalOperator, x: Array) -> Array:
    """The serial forms as the table of `Recurrence` defines them, one step at a time."""
    recurrence = operator.recurrence()
    c = defaultdict(lambda: np.zeros(0), {name: v.numpy() for name, v in recurrence.coefficients.items()})
    assert all(value.dtype == np.float64 for value in c.values())
    numbers = {"partial_sums": (len(x),), "window": c["columns"].shape[1:], "exponentials": c["gains"].shape}
    state = np.zeros((*numbers.get(recurrence.kind, ()), *x.shape[1:]))
    outputs = []
    for t, x_t in enumerate(x):
        row = 0 if recurrence.horizon is None else t
        match recurrence.kind:
            case "identity":
                y = x_t
            case "leak":
                y = state = c["decay"] * state + c["gain"] * x_t
            case "strict_leak":
                y, state = state, c["decay"] * (state + c["gain"] * x_t)
            case "partial_sums":
                state = state + np.multiply.outer(c["matrix"][: len(x), t], x_t)
                y = state[t] + c["bias"][t]
            case "window":
                state = state + np.multiply.outer(c["columns"][row], x_t)
                y, state = state[0] + c["bias"][row], np.concatenate([state[1:], np.zeros_like(state[:1])])
            case "exponentials":
                state = c["decays"].reshape(-1, *[1] * x_t.ndim) * state + np.multiply.outer(c["gains"], x_t)
                y = state.sum(0) + c["bias"]
            case other:
                pytest.fail(f"unknown kind {other}")
        outputs.append(y)
    return np.stack(outputs)


@every_operator
@pytest.mark.parametrize("T", [1, 2, 7, 63])
def test_serial_form(case: OperatorCase, T):
    operator, matrix, bias = case.make(T)
    x = sequence(T, 2, 3)
    np.testing.assert_allclose(run_serially(operator, x), apply(matrix, x) + per_step(bias, x), **ROUNDING)
    assert operator.recurrence().horizon == operator.horizon


@every_operator
def test_all_gradients(case: OperatorCase):
    operator = case.make(5)[0]
    parameters = list(operator.parameters())
    names = [name for name, _ in operator.named_parameters()]
    x = torch.from_numpy(sequence(5, 2, 2)).requires_grad_()

    def call(x, *values):
        return torch.func.functional_call(operator, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *parameters))


@every_operator
@pytest.mark.parametrize("T", [1, 7, 63])
def test_gradient_of_the_input_is_the_transpose(case: OperatorCase, T):
    operator, matrix, _ = case.make(T)
    g = sequence(T, 2, 3, seed=1)
    x = torch.from_numpy(sequence(T, 2, 3)).requires_grad_()
    operator(x).backward(torch.from_numpy(g))
    np.testing.assert_allclose(x.grad, apply(matrix.T, g), **ROUNDING)


@every_operator
def test_an_input_does_not_reach_back_in_time(case: OperatorCase):
    operator = case.make(6)[0]
    x = torch.from_numpy(sequence(6, 2, 3))
    for t in range(6):
        changed = x.clone()
        changed[t] += 10.0
        assert torch.equal(operator(changed)[:t], operator(x)[:t])


@every_operator
def test_prints_and_saves(case: OperatorCase):
    operator, matrix, _ = case.make(4)
    fresh = case.make(4)[0]
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(operator.state_dict())
    np.testing.assert_allclose(fresh.matrix(4), matrix, rtol=1e-12, atol=0)
    assert type(operator).__name__ in repr(operator)


class TestHorizon:
    @pytest.mark.parametrize("call", ["matrix", "bias"])
    def test_numbers(self, call):
        with pytest.raises(HorizonError, match=r"CausalMatrix is defined for 4 steps but was given 5"):
            getattr(CausalMatrix(4), call)(5)

    def test_forward_suspects_batch_first(self):
        with pytest.raises(HorizonError, match=r"given 5; a sequence is time-first, \(T, B, ...\).*batch-first\?"):
            CausalMatrix(4)(torch.zeros(5, 4, 3))

    def test_only_learned_matrices_have_one(self):
        assert CausalMatrix(4).horizon == 4
        for operator in (Identity(), Leak(1, 0.5), StrictLeak(1, 0.5), SlidingWindow(3), Exponentials([1.0], [0.5])):
            assert operator.horizon is None


class TestCausalMatrix:
    @pytest.mark.parametrize("T", [1, 2, 7, 63])
    def test_has_no_parameter_above_the_diagonal(self, T):
        assert sum(p.numel() for p in CausalMatrix(T).parameters()) == T * (T + 1) // 2
        assert sum(p.numel() for p in CausalMatrix(T, bias=True).parameters()) == T * (T + 1) // 2 + T

    @pytest.mark.parametrize(("T", "k"), [(1, 1), (7, 1), (7, 3), (7, 7), (63, 10)])
    def test_has_no_parameter_outside_the_band(self, T, k):
        inside = sum(1 for i in range(T) for j in range(T) if 0 <= i - j < k)
        assert sum(p.numel() for p in CausalMatrix(T, order=k).parameters()) == inside

    @pytest.mark.parametrize("order", [None, 3])
    @pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
    def test_training_leaves_zeros_zero(self, order, optimizer):
        operator = CausalMatrix(6, order=order, bias=True, init="kaiming")
        start = operator.matrix(6)
        steps = optimizer(operator.parameters(), lr=0.1, weight_decay=0.3)
        for seed in range(5):
            loss = operator(torch.from_numpy(sequence(6, 4, 2, seed=seed)).float()).square().sum()
            steps.zero_grad()
            loss.backward()
            steps.step()
        lag = lag_matrix(6)
        outside = (lag < 0) | (lag >= (order or 6))
        assert (operator.matrix(6).numpy()[outside] == 0).all()
        assert (operator.matrix(6) != start).numpy()[~outside].all()

    def test_starts_at_the_leak(self):
        """1e-7: the parameters are float32."""
        operator = CausalMatrix(9, gain=0.25, decay=0.75)
        np.testing.assert_allclose(operator.matrix(9), leak_matrix(9, 0.25, 0.75), atol=1e-7)

    @pytest.mark.parametrize("T", [100, 200])
    def test_kaiming_start(self, T):
        """Std sqrt(2/T); the sample deviates by less than 5 / sqrt(2n) of it."""
        entries = CausalMatrix(T, init="kaiming", bias=True).entries.detach()
        assert float(entries.std()) == pytest.approx(math.sqrt(2 / T), rel=5 / math.sqrt(2 * entries.numel()))
        assert abs(float(entries.mean())) < 5 * math.sqrt(2 / T / entries.numel())

    @pytest.mark.parametrize(("T", "order"), [(0, None), (-1, None), (3, 0), (3, 4)])
    def test_sizes(self, T, order):
        with pytest.raises(InputError, match="need steps >= 1 and 1 <= order <= steps, got"):
            CausalMatrix(T, order=order)

    def test_unknown_start(self):
        with pytest.raises(InputError, match='init must be "leak" or "kaiming", got \'ones\''):
            CausalMatrix(3, init="ones")


class TestSetMatrix:
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_sets_exactly(self, kind):
        operator = CausalMatrix(5).double()
        matrix, bias = np.tril(sequence(5, 5)), sequence(5)
        operator.set_matrix(kind(matrix), kind(bias))
        np.testing.assert_array_equal(operator.matrix(5), matrix)
        np.testing.assert_array_equal(operator.bias(5), bias)

    def test_keeps_the_bias_unless_told(self):
        operator = CausalMatrix(3, bias=True)
        operator.set_matrix(torch.eye(3), torch.arange(3.0))
        operator.set_matrix(2 * torch.eye(3))
        assert operator.bias(3).tolist() == [0, 1, 2]
        assert CausalMatrix(3).step_bias is None

    def test_a_new_bias_is_learned(self):
        operator = CausalMatrix(3)
        operator.set_matrix(torch.eye(3), torch.ones(3))
        assert [name for name, _ in operator.named_parameters()] == ["entries", "step_bias"]

    @pytest.mark.parametrize("matrix", [np.ones((3, 3)), np.triu(np.ones((3, 3))), np.eye(3, k=1)])
    def test_refuses_what_looks_ahead(self, matrix):
        with pytest.raises(InputError, match=r"must be zero above the diagonal .* has no serial form"):
            CausalMatrix(3).set_matrix(torch.from_numpy(matrix))

    def test_refuses_what_lies_outside_the_band(self):
        with pytest.raises(InputError, match=r"outside the last 2 step\(s\)"):
            CausalMatrix(3, order=2).set_matrix(torch.tril(torch.ones(3, 3)))

    @pytest.mark.parametrize("shape", [(3,), (2, 2), (4, 4), (3, 4), (1, 3, 3)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(InputError, match=r"matrix must have shape \(3, 3\), got"):
            CausalMatrix(3).set_matrix(torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(), (2,), (4,), (3, 1)])
    def test_refuses_other_shapes_of_the_bias(self, shape):
        with pytest.raises(InputError, match=r"bias must have shape \(3,\), got"):
            CausalMatrix(3).set_matrix(torch.eye(3), torch.zeros(shape))

    def test_a_refusal_changes_nothing(self):
        operator = CausalMatrix(3)
        before = operator.matrix(3)
        with pytest.raises(InputError):
            operator.set_matrix(torch.ones(3, 3), torch.zeros(3))
        assert torch.equal(operator.matrix(3), before)

    def test_a_refused_bias_changes_nothing(self):
        operator = CausalMatrix(3, bias=True)
        before = operator.matrix(3)
        with pytest.raises(InputError):
            operator.set_matrix(torch.eye(3), torch.zeros(4))
        assert torch.equal(operator.matrix(3), before)

    def test_an_optimizer_keeps_its_bias(self):
        operator = CausalMatrix(3, bias=True)
        bias = operator.step_bias
        operator.set_matrix(torch.eye(3), torch.ones(3))
        assert operator.step_bias is bias


class TestArguments:
    @pytest.mark.parametrize("operator", [Leak, StrictLeak])
    def test_leaks(self, operator):
        for decay in (-0.01, 1.01, math.nan, math.inf):
            with pytest.raises(InputError, match=r"decay must lie in \[0, 1\], got"):
                operator(1.0, decay)
        for gain in (math.nan, math.inf):
            with pytest.raises(InputError, match="gain must be finite, got"):
                operator(gain, 0.5)

    def test_sliding_window(self):
        with pytest.raises(InputError, match="order must be at least 1, got 0"):
            SlidingWindow(0)
        start = SlidingWindow(4, gain=1.0, decay=0.5)
        assert start.weight.tolist() == [1.0, 0.5, 0.25, 0.125]
        assert start.order == 4

    def test_exponentials(self):
        with pytest.raises(InputError, match="need as many gains as decays, at least one; got 1 and 2"):
            Exponentials([1.0], [0.5, 0.5])
        with pytest.raises(InputError, match="at least one; got 0 and 0"):
            Exponentials([], [])
        for decay in (0.0, 1.0, -0.5, math.nan):
            with pytest.raises(InputError, match="decays must lie strictly between 0 and 1"):
                Exponentials([1.0], [decay])

    @pytest.mark.parametrize("terms", [1, 2, 4])
    def test_exponentials_near_a_leak(self, terms):
        operator = Exponentials.near_leak(terms, -0.3, 0.75)
        assert operator.bias(3).tolist() == [0.0] * 3
        assert operator.offset is None
        gains, decays = operator.gains.tolist(), operator.decays.tolist()
        assert (gains[0], decays[0]) == (pytest.approx(-0.3), pytest.approx(0.75))
        assert gains[1:] == [pytest.approx(0.01)] * (terms - 1), "zero would keep the decays from learning"
        assert decays[1:] == pytest.approx([m / terms for m in range(1, terms)])

    @pytest.mark.parametrize(("decay", "start"), [(0.0, 0.001), (1.0, 0.999)])
    def test_exponentials_near_a_leak_that_keeps_or_forgets(self, decay, start):
        assert Exponentials.near_leak(1, 1.0, decay).decays.tolist() == [pytest.approx(start)]

    def test_terms_of_exponentials(self):
        for terms, message in ((0, "terms must be at least 1, got 0"), (2.0, "terms must be a whole number, got 2.0")):
            with pytest.raises(InputError, match=message):
                Exponentials.near_leak(terms, 0.5, 0.5)

    def test_float64_input_to_float32_exponentials_is_computed_in_float64(self):
        operator = Exponentials([0.5, -1.0], [0.9, 0.3])
        x = torch.from_numpy(sequence(63, 2, 3))
        decays = sigmoid(operator.decay_logits.detach().double().numpy())
        matrix = leak_matrix(63, 0.5, decays[0]) + leak_matrix(63, -1.0, decays[1])
        np.testing.assert_allclose(operator(x).detach(), apply(matrix, x.numpy()), **ROUNDING)
        np.testing.assert_array_equal(operator.recurrence().coefficients["decays"], decays)

    def test_exponentials_stay_stable_under_training(self):
        operator = Exponentials([1.0, 1.0], [0.9, 0.1])
        with torch.no_grad():
            operator.decay_logits += torch.tensor([3.0, -3.0])
        assert ((operator.decays > 0) & (operator.decays < 1)).all()


class TestMaskedMatrix:
    """`A = (lambda M + (1 - lambda) 1) .* W` on its way from full to causal."""

    def fading(self, T, order, lambda_):
        operator = MaskedMatrix(T, order, lambda_).double()
        W, b = sequence(T, T), sequence(T, seed=1)
        operator.set_matrix(W, b)
        mask = (lag_matrix(T) >= 0) & (lag_matrix(T) < order)
        return operator, np.where(mask, W, (1 - lambda_) * W), b

    @pytest.mark.parametrize("lambda_", [0.0, 0.25, 0.875, 1.0])
    @pytest.mark.parametrize(("T", "order"), [(1, 1), (5, 5), (6, 2), (63, 7)])
    def test_equals_its_matrix(self, T, order, lambda_):
        operator, matrix, bias = self.fading(T, order, lambda_)
        x = sequence(T, 2, 3, seed=2)
        expected = apply(matrix, x) + per_step(bias, x)
        np.testing.assert_allclose(operator(torch.from_numpy(x)).detach(), expected, **ROUNDING)
        np.testing.assert_allclose(operator.matrix(T), matrix, **ROUNDING)
        assert operator.lambda_ == lambda_

    @pytest.mark.parametrize("lambda_", [0.25, 1.0])
    def test_gradient_fades_as_the_mask_does(self, lambda_):
        """dL/dW = mask .* (g x^T)."""
        operator, _, _ = self.fading(6, 2, lambda_)
        x, g = sequence(6, 2, 3, seed=2), sequence(6, 2, 3, seed=3)
        operator(torch.from_numpy(x)).backward(torch.from_numpy(g))
        mask = np.where((lag_matrix(6) >= 0) & (lag_matrix(6) < 2), 1.0, 1 - lambda_)
        np.testing.assert_allclose(operator.weight.grad, mask * np.einsum("ibf,jbf->ij", g, x), **ROUNDING)
        np.testing.assert_allclose(operator.step_bias.grad, g.sum((1, 2)), **ROUNDING)

    def test_lambda_is_saved_with_the_parameters(self):
        operator, fresh = self.fading(5, 2, 0.25)[0], MaskedMatrix(5, 2)
        fresh.load_state_dict(operator.state_dict())
        assert fresh.lambda_ == 0.25

    @pytest.mark.parametrize("lambda_", [0.0, 0.999])
    def test_no_serial_form_while_it_looks_ahead(self, lambda_):
        with pytest.raises(HorizonError, match="rows still look ahead, so there is no serial form"):
            MaskedMatrix(4, 2, lambda_).recurrence()
        with pytest.raises(HorizonError, match="needs all 4 steps, got 3"):
            MaskedMatrix(4, 2, lambda_)(torch.zeros(3, 1, 1))

    def test_starts_small_with_a_bias_of_minus_one(self):
        operator = MaskedMatrix(16, 4)
        weight = operator.weight.detach()
        assert float(weight.abs().max()) <= 0.25
        assert float(weight.std()) > 0.1
        assert (operator.step_bias == -1).all()

    @pytest.mark.parametrize(("matrix", "bias"), [((3, 4), None), ((4, 4), (3,))])
    def test_shapes_of_what_is_set(self, matrix, bias):
        with pytest.raises(InputError, match="must have shape"):
            MaskedMatrix(4, 2).set_matrix(np.zeros(matrix), None if bias is None else np.zeros(bias))


@pytest.mark.parametrize("kind", [lambda: SlidingWindow(3), lambda: CausalMatrix(3)])
def test_nothing_is_added_unless_it_is_asked_for(kind):
    """No bias by default: none is a parameter, none is in the mathematics."""
    operator = kind()
    assert len(list(operator.parameters())) == 1
    assert not operator.bias(5 if isinstance(operator, SlidingWindow) else 3).any()
