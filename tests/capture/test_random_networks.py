"""Random networks: the machine and the module agree on every single spike, in float64."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psu_deploy.nn.containers import Residual, SpikingSequential
from tests.amount import tries
from tests.helpers import EVERY_NEURON, check_capture

CHANNELS = st.integers(1, 4)


@st.composite
def neurons(draw, T):
    case = draw(st.sampled_from(EVERY_NEURON))
    tau, threshold = draw(st.sampled_from([1.5, 2.0, 4.0])), draw(st.sampled_from([0.3, 0.5, 1.0]))
    return case.make(T, tau, threshold, seed=draw(st.integers(0, 99)))[0]


def random_statistics(norm):
    """A BatchNorm as training leaves it."""
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.2, 2.0)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def features_after(layers, features):
    """Shape of one step behind these layers."""
    with torch.no_grad():
        return tuple(SpikingSequential(*layers).double().eval()(torch.zeros(1, 1, *features).double()).shape[2:])


@st.composite
def synapses(draw, features, *, keep_shape):
    """A Linear or a convolution with what usually follows: Dropout, up to two BatchNorms."""
    axes, channels = len(features) - 1, features[0]
    out, bias = channels if keep_shape else draw(CHANNELS), draw(st.booleans())
    if axes == 0:
        layers = [nn.Linear(channels, out, bias)]
    else:
        conv, kernel = (nn.Conv1d, nn.Conv2d)[axes - 1], draw(st.integers(1, 3))
        padding = "same" if keep_shape else draw(st.sampled_from(["same", kernel // 2, kernel]))
        stride = 1 if padding == "same" else draw(st.integers(1, 2))
        groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == out % g == 0]))
        layers = [conv(channels, out, kernel, stride, padding, groups=groups, bias=bias)]
    if draw(st.booleans()):
        layers.append(nn.Dropout(0.5))
    norm = nn.BatchNorm2d if axes == 2 else nn.BatchNorm1d
    return layers + [random_statistics(norm(out)) for _ in range(draw(st.integers(0, 2)))]


@st.composite
def blocks(draw, features, T):
    """Synapses, usually neurons, sometimes with a skip connection or a pool."""
    residual = draw(st.booleans())
    layers = draw(synapses(features, keep_shape=residual))
    if draw(st.integers(0, 3)):
        layers.append(draw(neurons(T)))
    if residual:
        return [Residual(*layers)]
    size = features_after(layers, features)[1:]
    if size and min(size) >= 2 and draw(st.booleans()):
        kind = draw(st.sampled_from(["Avg", "Max"]))
        layers.append(getattr(nn, f"{kind}Pool{len(size)}d")(2, stride=draw(st.integers(1, 2))))
    return layers


@st.composite
def networks(draw):
    """A module, the features of its input, T and B."""
    torch.manual_seed(draw(st.integers(0, 999)))
    T, B = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    features = (draw(CHANNELS), *[draw(st.integers(3, 6)) for _ in range(draw(st.integers(0, 2)))])
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        layers += draw(blocks(features_after(layers, features), T))
    if draw(st.booleans()):
        layers += [nn.Flatten(), nn.Linear(prod(features_after(layers, features)), 3)]
        layers += [draw(neurons(T))] if draw(st.booleans()) else []
    return SpikingSequential(*layers), features, T, B


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(networks(), st.integers(0, 99))
@settings(max_examples=tries(30))
def test_not_one_spike_differs(network, seed):
    model, features, T, B = network
    check_capture(model, features, T, B, seed)
