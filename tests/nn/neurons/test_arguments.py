"""Wrong arguments and wrong inputs: one clear sentence each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PPSU, PSN, PSU, RPSU, SPSN, MaskedPSN, SlidingPSN
from tests.helpers import EVERY_NEURON, NEURONS, NeuronCase

LEAKY = {"psu": PSU, "ipsu": lambda *a, **k: IPSU(4, *a, **k), "rpsu": lambda *a, **k: RPSU(4, *a, **k)}
LEAKY["ppsu"] = lambda *a, **k: PPSU(4, *a, **k)


@pytest.mark.parametrize("unit", LEAKY.values(), ids=LEAKY)
@pytest.mark.parametrize("tau", [0.5, 0.0, -2.0, math.nan])
def test_tau(unit, tau):
    with pytest.raises(InputError, match=r"tau is a number of steps and must be at least 1, got"):
        unit(tau)


@pytest.mark.parametrize("unit", LEAKY.values(), ids=LEAKY)
def test_tau_of_one_has_no_memory(unit):
    assert unit(1.0).decay == 0.0
    assert unit(1.0).gain == 1.0


FIRING = [*LEAKY.values(), lambda **k: PSN(3, **k), lambda **k: SlidingPSN(3, **k), lambda **k: MaskedPSN(3, **k)]


@pytest.mark.parametrize("unit", [*FIRING, LIF, PLIF])
@pytest.mark.parametrize("fire_on", ["=>", "==", "", None])
def test_fire_on(unit, fire_on):
    with pytest.raises(InputError, match='fire_on must be ">=" or ">", got'):
        unit(fire_on=fire_on)


@pytest.mark.parametrize("unit", LEAKY.values(), ids=LEAKY)
@pytest.mark.parametrize("decay", [-0.1, 1.1, math.nan])
def test_decay(unit, decay):
    with pytest.raises(InputError, match=r"decay must lie in \[0, 1\], got"):
        unit(decay=decay)


@pytest.mark.parametrize("gain", [math.inf, math.nan])
def test_gain(gain):
    with pytest.raises(InputError, match="gain must be finite"):
        PSU(gain=gain)
    with pytest.raises(InputError, match="gain must be finite"):
        PSU(reset_gain=gain)


@pytest.mark.parametrize("arguments", [{}, {"reset_gain": 1.0}])
def test_threshold_must_be_finite(arguments):
    with pytest.raises(InputError, match="threshold must be finite"):
        PSU(threshold=math.nan, **arguments)


@pytest.mark.parametrize("unit", [IPSU, RPSU, PPSU])
@pytest.mark.parametrize("T", [0, -1])
def test_number_of_steps(unit, T):
    with pytest.raises(InputError, match="need steps >= 1"):
        unit(T)


@pytest.mark.parametrize("unit", [IPSU, RPSU, PPSU])
def test_init(unit):
    with pytest.raises(InputError, match='init must be "leak" or "kaiming", got'):
        unit(4, init="zeros")


def test_reset_input():
    with pytest.raises(InputError, match='reset_input must be "estimate" or "current", got'):
        IPSU(4, reset_input="spike")


def test_psn_and_sliding_psn():
    with pytest.raises(InputError, match="T must be at least 1, got 0"):
        PSN(0)
    with pytest.raises(InputError, match="order must be at least 1, got 0"):
        SlidingPSN(0)
    with pytest.raises(HorizonError, match=r"exactly 4 steps, got 3; x is \(T, B, ...\)"):
        PSN(4)(torch.zeros(3, 2, 5))


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
@pytest.mark.parametrize("shape", [(), (4,), (0, 2, 3)])
def test_shape(case: NeuronCase, shape):
    neuron = case.make(4)[0]
    with pytest.raises(InputError, match=r"needs a sequence \(T, B, \*features\) with T >= 1, got shape"):
        neuron(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_dtype(case: NeuronCase, dtype):
    with pytest.raises(InputError, match=r"floating point input, got torch\..*; convert with x.float\(\)"):
        case.make(4)[0](torch.ones(4, 2, 3).to(dtype))


@pytest.mark.parametrize("case", [c for c in EVERY_NEURON if not c.unbounded], ids=str)
def test_past_the_horizon(case: NeuronCase):
    with pytest.raises(HorizonError, match=r"defined for 4 steps but was given 5.*batch-first"):
        case.make(4)[0](torch.zeros(5, 2, 3, dtype=torch.float64))


@pytest.mark.parametrize("unit", [LIF, PLIF])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tau": 1.0}, "tau is a number of steps and must be more than 1, got 1.0"),
        ({"tau": 0.0}, "tau is a number of steps and must be more than 1, got 0.0"),
        ({"tau": math.inf}, "tau is a number of steps and must be more than 1, got inf"),
        ({"tau": math.nan}, "tau is a number of steps and must be more than 1, got nan"),
        ({"threshold": math.inf}, "threshold must be finite, got inf"),
        ({"reset": "zero"}, 'reset must be "soft" or "hard", got \'zero\''),
    ],
)
def test_lif(unit, wrong, message):
    with pytest.raises(InputError, match=message):
        unit(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tau": 0.5}, "tau is a number of steps and must be at least 1, got 0.5"),
        ({"tau": math.nan}, "tau is a number of steps and must be at least 1, got nan"),
        ({"seed": -1}, "seed must be a whole number .*, got -1"),
        ({"seed": 1.0}, "seed must be a whole number .*, got 1.0"),
        ({"seed": "1"}, "seed must be a whole number .*, got '1'"),
        ({"decay": 1.5}, r"decay must lie in \[0, 1\], got 1.5"),
        ({"gain": math.inf}, "gain must be finite"),
    ],
)
def test_spsn(wrong, message):
    with pytest.raises(InputError, match=message):
        SPSN(**wrong)


@pytest.mark.parametrize("arguments", [(0,), (4, 0), (4, 5), (4, -1)])
def test_masked_psn(arguments):
    with pytest.raises(InputError, match="need steps >= 1 and 1 <= order <= steps, got steps="):
        MaskedPSN(*arguments)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_lambda(value):
    neuron = MaskedPSN(4)
    with pytest.raises(InputError, match=r"lambda_ must lie in 0..1, got"):
        neuron.lambda_ = value
    with pytest.raises(InputError, match=r"lambda_ must lie in 0..1, got"):
        MaskedPSN(4, lambda_=value)
    assert neuron.lambda_ == 1.0


def test_masked_psn_that_looks_ahead_needs_every_step():
    with pytest.raises(HorizonError, match=r"lambda_ = 0.5 < 1 .* needs all 4 steps, got 3"):
        MaskedPSN(4, 2, 0.5)(torch.zeros(3, 1, 2))


def test_loops_print_what_they_are():
    assert "tau=3, threshold=0.25, reset='soft', decay_input=False, fire_on='>'" in repr(
        LIF(3.0, 0.25, reset="soft", decay_input=False, fire_on=">")
    )
    assert repr(PLIF(3.0)).startswith("PLIF(tau=3, ")
    assert "tau=4, seed=7" in repr(SPSN(4.0, seed=7))
    assert "order=2, lambda_=0.5" in repr(MaskedPSN(4, 2, 0.5))


def test_threshold_is_fixed():
    with pytest.raises(AttributeError):
        PSU().threshold = 2.0


@pytest.mark.parametrize("case", NEURONS, ids=str)
def test_prints_what_it_is(case: NeuronCase):
    neuron = case.make(4, threshold=0.25)[0]
    assert f"threshold={neuron.threshold:g}, fire_on={neuron.fire_on!r}" in repr(neuron)


@pytest.mark.parametrize("wrong", ["2", None, True, [2]])
@pytest.mark.parametrize("make", [PSU, IPSU, RPSU, PPSU, LIF, PLIF, SPSN, PSN, MaskedPSN, SlidingPSN])
def test_a_first_argument_that_is_no_number(make, wrong):
    with pytest.raises(InputError, match=r"must be a (whole )?number, got"):
        make(wrong)


@pytest.mark.parametrize("make", [IPSU, RPSU, PPSU, PSN, MaskedPSN, SlidingPSN])
def test_half_a_step(make):
    with pytest.raises(InputError, match=r"must be a whole number, got 2\.5"):
        make(2.5)


@pytest.mark.parametrize("make", [lambda v: PSU(2.0, v), lambda v: LIF(2.0, v), lambda v: RPSU(4, 2.0, v)])
def test_a_threshold_that_is_no_number(make):
    with pytest.raises(InputError, match="threshold must be a number, got '1'"):
        make("1")


def test_numbers_of_numpy_are_numbers():
    assert RPSU(np.int64(4), np.float32(2.0), np.float64(0.5)).horizon == 4
