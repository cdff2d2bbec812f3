"""Functions, softmax and normalisations in float32, by torch, onnxruntime and ONNX's reference, against their bounds.

On inputs that are large, tiny, all equal, far from zero with little between them, and beside every kink; as they are,
and behind a sum that is off already.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from psu_deploy.exporters.onnx.emit import emit
from psu_deploy.exporters.onnx.metadata import facts_of
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.functions import FUNCTIONS
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE, Roundoff
from psu_deploy.verify.rounding import rounding_bounds
from tests.verify.engines import TO_NEAREST
from tests.zoo import chain, normal

LAYERS = {
    **{kind: (ops.Activation(kind), (12,)) for kind in FUNCTIONS},
    "leaky relu": (ops.LeakyReLU(0.3), (12,)),
    "leaky relu downwards": (ops.LeakyReLU(-1.7), (12,)),
    "prelu": (ops.PReLU(normal(3)), (3, 4)),
    "elu": (ops.ELU(1.3), (12,)),
    "elu upwards": (ops.ELU(-0.5), (12,)),
    "selu": (ops.ELU(1.6732632423543772, 1.0507009873554805), (12,)),
    "celu": (ops.ELU(0.3, 1.0, 1 / 0.3), (12,)),
    "softplus": (ops.Softplus(), (12,)),
    "softplus, steep and soon a line": (ops.Softplus(2.0, 1.0), (12,)),
    "softplus, mirrored": (ops.Softplus(-0.3, 3.0), (12,)),
    "clamp": (ops.Clamp(-0.3, 3.1), (12,)),
    "clamp above 0": (ops.Clamp(low=0.7), (12,)),
    "clamp below 0": (ops.Clamp(high=-0.7), (12,)),
    **{kind: (ops.Elementary(kind), (12,)) for kind in ("exp", "expm1")},
    **{f"power {n}": (ops.Power(n), (12,)) for n in (0.0, 1.0, 2.0, 3.0, 7.0, -1.0, -2.0, -3.0)},
    **{f"norm of p {p}": (ops.LPPool((3,), (2,), ((1, 0),), p), (2, 6)) for p in (1.0, 2.0, 3.0, 6.0)},
    "softmax": (ops.Softmax(1), (3, 4)),
    "softmax over channels": (ops.Softmax(0), (3, 4)),
    "softmax of many": (ops.Softmax(0), (300,)),
    "log softmax": (ops.LogSoftmax(0), (12,)),
    "layer norm": (ops.LayerNorm((12,), 1e-5, normal(12), normal(12)), (12,)),
    "layer norm of many": (ops.LayerNorm((300,), 1e-5), (300,)),
    "layer norm over two axes": (ops.LayerNorm((3, 4), 0.1, normal(3, 4)), (2, 3, 4)),
    "layer norm without eps": (ops.LayerNorm((4,), 0.0), (3, 4)),
    "rms norm": (ops.RMSNorm((12,), 1.2e-7, normal(12)), (12,)),
    "rms norm without eps": (ops.RMSNorm((3, 4), 0.0), (3, 4)),
    "group norm": (ops.GroupNorm(2, 1e-5, normal(4), normal(4)), (4, 3)),
    "group norm of one number each": (ops.GroupNorm(3, 1e-5), (3,)),
}
OF_POSITIVES = {
    **{kind: (ops.Elementary(kind), (12,)) for kind in ("log", "log1p")},
    **{f"power {n}": (ops.Power(n), (12,)) for n in (0.5, -0.5, 1.5, -1.5, 1 / 3)},
    **{f"norm of p {p}": (ops.LPPool((2, 2), (1, 1), ((0, 0), (0, 1)), p), (1, 3, 4)) for p in (0.5, 1.7, 3.0)},
}
"""They have no value, or a limit only, where x < 0."""

KINKS = np.array([-20.0, -6.0, -3.0, -1.0, -0.7, -0.3, 0.0, 0.5, 0.7, 1.0, 3.0, 3.1, 6.0, 20.0, 30.0, -88.0, 88.0])
B = 40

INPUTS = {
    "normal": lambda random, shape: 2 * random.standard_normal(shape),
    "large": lambda random, shape: 1e4 * random.standard_normal(shape),
    "tiny": lambda random, shape: 1e-30 * random.standard_normal(shape),
    "of any size": lambda random, shape: random.standard_normal(shape) * 10.0 ** random.uniform(-30, 4, shape),
    "equal": lambda random, shape: np.broadcast_to(_rows(random.choice([0.0, 0.1, -3.7, 1.0, 1e4], B), shape), shape),
    "far from zero": lambda random, shape: (
        _rows(10.0 ** random.uniform(0, 4, B), shape) + random.standard_normal(shape)
    ),
    "beside the kinks": lambda random, shape: random.choice(KINKS, shape) * (1 + 2e-7 * random.integers(-3, 4, shape)),
    "beside zero": lambda random, shape: random.integers(-3, 4, shape) * 1e-7,
}


def _rows(numbers, shape):
    return numbers.reshape(-1, *[1] * (len(shape) - 1))


def found_by(machine: StateMachine, x):
    """(B, *features) of every engine: name -> y."""
    model = emit(machine, facts_of(machine))
    engines = {"torch": computed(machine, torch.from_numpy(x))}
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        engines[level] = session.run(["y"], {"x": x})[0]
    with np.errstate(all="ignore"):
        engines["reference"] = ReferenceEvaluator(model).run(["y"], {"x": x})[0]
        for i, engine in enumerate(TO_NEAREST):
            y = np.float64(x)[None]
            for node in machine.nodes:
                y = engine.layer(node.layer, y)
            engines[f"engine {i}"] = y[0]
    return engines


def computed(machine, y):
    """By the layers themselves, in the precision of the input, overflows included."""
    tensor = partial(torch.tensor, dtype=y.dtype)
    for node in machine.nodes:
        y = node.layer.step([y], Context(tensor, {}, 0))
    return y.numpy()


def bound_of(machine, x):
    """Exact values and how far off they may be."""
    exact = torch.from_numpy(np.float64(x))
    bound = rounding_bounds(machine, exact[None], {}, {}, "float32").outputs["y"][0]
    return computed(machine, exact), bound.double().numpy()


def beyond(machine, x):
    """Engine -> how many numbers are farther off than they may be."""
    exact, bound = bound_of(machine, x)
    with np.errstate(all="ignore"):
        right = {name: (np.abs(y - exact) <= bound) | np.isinf(bound) for name, y in found_by(machine, x).items()}
    return {name: int((~near).sum()) for name, near in right.items() if not near.all()}


def cases(layer, features, kind, positive):
    """The layer alone, and behind a sum of 64 products; with an input for each."""
    random = np.random.default_rng(sum(map(ord, kind)))
    for machine in (
        chain(features, layer),
        chain((*features[:-1], 64), ops.Linear(_weight(features, positive)), layer),
    ):
        x = INPUTS[kind](random, (B, *machine.input_shape))
        yield machine, np.float32(np.abs(x) if positive else x)


def _weight(features, positive):
    weight = normal(features[-1], 64, seed=3) / 8
    return np.abs(weight) if positive else weight


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("layer", "features"), LAYERS.values(), ids=LAYERS)
def test_no_engine_gets_beyond_it(layer, features, kind):
    for machine, x in cases(layer, features, kind, positive=False):
        assert not beyond(machine, x)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("layer", "features"), OF_POSITIVES.values(), ids=OF_POSITIVES)
def test_nor_of_what_is_positive(layer, features, kind):
    for machine, x in cases(layer, features, kind, positive=True):
        assert not beyond(machine, x)


def bounds(layer, x, off=0.0):
    """Of a layer whose input is off by so much."""
    roundoff = Roundoff("float32", AS_THE_MACHINE)
    exact = torch.tensor(x, dtype=torch.float64)[None]
    pair = torch.cat([exact.abs(), torch.full_like(exact, off)]).to(roundoff.dtype)
    context = Context(roundoff.tensor, {}, 0, exact=[exact])
    return layer.error([pair], context, roundoff).chunk(2)[1][0].double().numpy()


X = 2 * normal(64)


@pytest.mark.parametrize("layer", [ops.LayerNorm((64,), 1e-5), ops.RMSNorm((64,), 1e-5), ops.GroupNorm(2, 1e-5)])
def test_a_small_error_stays_small(layer):
    """What a normalisation of ordinary numbers makes of an error of 1e-6: its own rounding, and a few times as much."""
    assert bounds(layer, X).max() < 3e-4
    assert (bounds(layer, X, 1e-6) - bounds(layer, X)).max() < 1e-5


@pytest.mark.parametrize(
    "layer", [*(layer for layer, features in LAYERS.values() if features == (12,)), ops.Softmax(0), ops.LogSoftmax(0)]
)
def test_ordinary_numbers_have_a_bound(layer):
    """Near to what the slope of the function makes of the error, by differences of the function itself."""
    x, off = X[:12] + 0.01, 1e-4
    moved = [torch.tensor(x + sign * off * each) for sign in (-1, 1) for each in (np.ones(12), np.eye(12))]
    exact = computed(chain((12,), layer), torch.tensor(x)[None])
    far = np.max([np.abs(computed(chain((12,), layer), m.reshape(-1, 12)) - exact).max(0) for m in moved], axis=0)
    assert (bounds(layer, x, off) <= 40 * (far.max() + 1e-6)).all()


NOTHING_KNOWN = {
    "log of 0": (ops.Elementary("log"), 0.0, 0.0),
    "log beside 0": (ops.Elementary("log"), 1e-5, 2e-5),
    "log of what may have been flushed": (ops.Elementary("log"), 1e-38, 0.0),
    "log1p beside -1": (ops.Elementary("log1p"), -0.9999, 2e-4),
    "exp too large": (ops.Elementary("exp"), 100.0, 0.0),
    "reciprocal of 0": (ops.Power(-1.0), 0.0, 0.0),
    "reciprocal beside 0": (ops.Power(-1.0), -1e-5, 2e-5),
    "reciprocal of nearly nothing": (ops.Power(-1.0), 1e-38, 0.0),
    "root beside 0": (ops.Power(0.5), 1e-5, 2e-5),
    "root of less than 0": (ops.Power(0.5), -1.0, 0.0),
    "a square too large": (ops.Power(2.0), 1e20, 0.0),
    "whatever": (ops.Power(2.0), 1.0, np.inf),
    "deviations too large": (ops.LayerNorm((1,), 1.0), 1e17, 1e17),
    "no size": (ops.RMSNorm((1,), 0.0), 0.0, 0.0),
    "nearly no size": (ops.RMSNorm((1,), 0.0), 1e-5, 2e-5),
    "softmax of anything": (ops.Softmax(0), 1.0, np.inf),
    "norm of what may be below 0": (ops.LPPool((1,), (1,), ((0, 0),), 1.7), 1e-5, 2e-5),
    "norm of squares too large": (ops.LPPool((1,), (1,), ((0, 0),), 2.0), 1e20, 0.0),
    "norm of a cube beside 0": (ops.LPPool((1,), (1,), ((0, 0),), 3.0), 1e-5, 2e-5),
}


@pytest.mark.parametrize(("layer", "x", "off"), NOTHING_KNOWN.values(), ids=NOTHING_KNOWN)
def test_where_nothing_is_known(layer, x, off):
    assert np.isinf(bounds(layer, [x], off)).all()


@pytest.mark.parametrize("off", [1e-4, 0.1, 3.0])
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        *((ops.Power(n), x) for n in (2.0, 3.0, 4.0) for x in (-1.0, 0.0, 0.05, 2.0)),
        *((ops.Elementary(kind), x) for kind in ("exp", "expm1") for x in (-5.0, 0.0, 3.0)),
        *((ops.Softplus(beta, 1.0), x) for beta in (2.0, -2.0) for x in (-0.52, -0.49, 0.49, 0.52, 0.0)),
        *((ops.Power(n), x) for n in (-1.0, -0.5, 0.5, 1.5) for x in (3.001, 100.0)),
    ],
)
def test_all_that_an_error_can_make_of_it(layer, x, off):
    """The function at a thousand places within reach."""
    places = torch.linspace(x - off, x + off, 1001, dtype=torch.float64)[:, None]
    machine = chain((1,), layer)
    exact = computed(machine, torch.tensor([[x]]).double())
    farthest = np.abs(computed(machine, places) - exact).max()
    bound = bounds(layer, [x], off)
    assert farthest * (1 - 1e-6) <= bound  # E is float32 itself
    assert bound <= 1.5 * farthest + off + 1e-5 * (1 + np.abs(exact))


@pytest.mark.parametrize("off", [1e-3, 0.1])
@pytest.mark.parametrize("layer", [layer for layer, features in LAYERS.values() if features == (12,)][:28])
def test_a_slope_is_steep_enough(layer, off):
    """On a grid over all that is not straight."""
    x = np.linspace(-8.0, 8.0, 1200).reshape(-1, 12)
    machine = chain((12,), layer)
    exact, *moved = (computed(machine, torch.tensor(x + by)) for by in (0.0, -off, off))
    bound = np.stack([bounds(layer, row, off) for row in x])
    assert all((np.abs(y - exact) * (1 - 1e-6) <= bound).all() for y in moved)


@pytest.mark.parametrize(
    "layer",
    [
        *(ops.LayerNorm((64,), 0.1, normal(64), normal(64)), ops.RMSNorm((64,), 0.1), ops.GroupNorm(2, 0.1)),
        *(ops.Softmax(0), ops.LogSoftmax(0)),
    ],
)
@pytest.mark.parametrize("outlier", [0.0, 30.0])
def test_every_input_may_be_off(layer, outlier):
    """By the Jacobian: all of them in the worst direction."""
    x, off = torch.tensor(X + outlier * (np.arange(64) == 3)), 1e-3
    context = Context(partial(torch.tensor, dtype=torch.float64), {}, 0)
    slopes = torch.autograd.functional.jacobian(lambda x: layer.step([x[None]], context)[0], x)
    assert (slopes.abs().sum(1).numpy() * off * 0.999 <= bounds(layer, x.tolist(), off)).all()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 5.0, 0.5, 1.7])
@pytest.mark.parametrize("off", [0.0, 1e-4, 0.1])
def test_a_norm_is_off_by_what_its_windows_may_be(p, off):
    """All of a window at either end; of one that is silent, hardly anything."""
    layer, x = ops.LPPool((4,), (4,), ((0, 0),), p), np.abs(X[:16]) + 0.11
    exact, *ends = (np.sum(np.float64(x + by).reshape(4, 4) ** p, 1) ** (1 / p) for by in (0.0, off, -off))
    far = np.max([np.abs(end - exact) for end in ends], axis=0)
    bound = bounds(layer, x[None], off)[0]
    assert (far * (1 - 1e-6) <= bound).all()
    assert (bound <= far * (1 + 1e-6) + 1e-5 * exact).all()
    assert bounds(layer, np.zeros((1, 4))).max() < 1e-6 ** (1 / max(1.0, p / 4))


def test_a_cube_root_of_a_sum_is_as_steep_as_the_sum_is_small():
    """Of terms of both signs, that hardly differ."""
    layer, off = ops.LPPool((2,), (2,), ((0, 0),), 3.0), 1e-4
    for x in ([0.5, -0.3], [1.0, -0.999]):
        exact, *ends = ((np.sum(np.add(x, by) ** 3)) ** (1 / 3) for by in (0.0, off, -off))
        far = max(abs(end - exact) for end in ends)
        assert far <= bounds(layer, [x], off) <= 1.01 * far + 1e-5


def test_a_softmax_is_never_off_by_more_than_one():
    assert bounds(ops.Softmax(0), [1.0, -2.0], 1e6).max() == pytest.approx(1.0, abs=1e-5)
    assert bounds(ops.Softmax(0), [30.0, 0.0], 1.0)[1] < 1e-12


def test_an_engine_that_takes_squared_means_from_mean_squares_is_not_forgiven():
    """What such an engine makes of numbers far from zero is wrong, and the bound has no room for it."""
    machine, x = chain((32,), ops.LayerNorm((32,), 1e-5)), np.float32(1000 + normal(B, 32))
    exact, bound = bound_of(machine, x)
    mean = x.mean(-1, keepdims=True, dtype=np.float32)
    wrong = (x - mean) / np.sqrt(np.maximum((x * x).mean(-1, keepdims=True, dtype=np.float32) - mean * mean, 0) + 1e-5)
    assert (np.abs(wrong - exact) > bound).any()
    assert np.isfinite(bound).all()


@pytest.mark.parametrize("layer", [ops.LayerNorm((8,), 1e-5, normal(8), normal(8)), ops.RMSNorm((8,), 1e-5, normal(8))])
def test_onnxruntime_leaves_the_steps_as_they_are(layer, tmp_path):
    """Its own LayerNormalization is such an engine."""
    machine = chain((8,), layer)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = emit(machine, facts_of(machine))
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert sorted(kinds) == sorted(node.op_type for node in model.graph.node)
