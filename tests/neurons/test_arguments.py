"""Wrong arguments and wrong inputs: one clear sentence each."""

from __future__ import annotations

import math

import pytest
import torch

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.neurons import IPSU, PPSU, PSN, PSU, RPSU, SlidingPSN
from tests.helpers import NEURONS, NeuronCase

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


@pytest.mark.parametrize("unit", [*LEAKY.values(), lambda **k: PSN(3, **k), lambda **k: SlidingPSN(3, **k)])
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


@pytest.mark.parametrize("case", NEURONS, ids=str)
@pytest.mark.parametrize("shape", [(), (4,), (0, 2, 3)])
def test_shape(case: NeuronCase, shape):
    neuron = case.make(4)[0]
    with pytest.raises(InputError, match=r"needs a sequence \(T, B, \*features\) with T >= 1, got shape"):
        neuron(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("case", NEURONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_dtype(case: NeuronCase, dtype):
    with pytest.raises(InputError, match=r"floating point input, got torch\..*; convert with x.float\(\)"):
        case.make(4)[0](torch.ones(4, 2, 3).to(dtype))


@pytest.mark.parametrize("case", [c for c in NEURONS if not c.unbounded], ids=str)
def test_past_the_horizon(case: NeuronCase):
    with pytest.raises(HorizonError, match=r"defined for 4 steps but was given 5.*batch-first"):
        case.make(4)[0](torch.zeros(5, 2, 3, dtype=torch.float64))


def test_threshold_is_fixed():
    with pytest.raises(AttributeError):
        PSU().threshold = 2.0


@pytest.mark.parametrize("case", NEURONS, ids=str)
def test_prints_what_it_is(case: NeuronCase):
    neuron = case.make(4, threshold=0.25)[0]
    assert f"threshold={neuron.threshold:g}, fire_on={neuron.fire_on!r}" in repr(neuron)
