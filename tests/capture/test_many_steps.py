"""Networks that do on many steps, or on another batch, what a short example does not show."""

from __future__ import annotations

import gc

import pytest
import torch

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.recording import Recording
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.neurons import LIF, PSU, RPSU
from tests.helpers import Forward, check_capture


def shifted_by_half(net, x):
    half = len(x) // 2
    return net.n(torch.cat([torch.zeros_like(x[:half]), x[: len(x) - half]]))


OTHERWISE = {
    "first steps": lambda net, x: net.n(x)[:8].mean(0),
    "shift": shifted_by_half,
    "branch": lambda net, x: net.n(x * 2 if len(x) > 8 else x),
    "no more than": lambda net, x: net.n(x).sum(0) / max(len(x), 10),
    "root": lambda net, x: net.n(x * int(len(x) ** 0.5)),
    "loop that ends": lambda net, x: sum(y for t, y in enumerate(net.n(x)) if t < 6),
    "batch": lambda net, x: net.n(x * min(x.shape[1], 3)),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_another_network_on_other_sizes_is_refused(name):
    with pytest.raises(UnsupportedModelError):
        to_state_machine(Forward(OTHERWISE[name], n=LIF()), (4,))


@pytest.mark.parametrize("T", [4, 10, 30])
def test_the_mean_of_more_steps_than_a_short_example_has(T):
    check_capture(Forward(lambda net, x: net.n(x)[-10:].mean(0), n=LIF()), (4,), T=T)


@pytest.mark.rows(7)
@pytest.mark.parametrize("last", range(2, 9))
def test_the_mean_of_as_many_steps_as_an_example_has(last):
    """All of few steps are the last of many."""
    check_capture(Forward(lambda net, x: net.n(x)[-last:].mean(0), n=RPSU(12)), (4,), T=12)


def test_steps_beyond_the_horizon_do_not_count():
    check_capture(Forward(lambda net, x: net.n(x)[-10:].mean(0), n=RPSU(8)), (4,), T=8)


def recordings():
    return [one for one in gc.get_objects() if type(one) is Recording]


@pytest.mark.full
def test_nothing_of_a_recording_stays():
    """Every tensor of three runs; the collector of cycles comes when it likes."""
    net = Forward(lambda net, x: net.n(x + x.max(-1, keepdim=True).values), n=PSU())
    gc.collect()
    gc.disable()
    try:
        before = recordings()  # errors that somebody keeps have some
        to_state_machine(net, (4,))
        assert len(recordings()) == len(before)
    finally:
        gc.enable()


def test_a_network_that_is_another_on_short_sequences():
    """Its horizon is longer than all of them, and on as many steps as that it is one network."""

    def forward(net, x):
        return net.n(x if len(x) < 9 else 1.5 * x)

    with pytest.raises(UnsupportedModelError, match="is another layer for another input"):
        to_state_machine(Forward(forward, n=RPSU(64)), (4,))


def test_a_network_that_counts_from_one_example_to_the_next():
    """It is refused on few steps, and by the time that many are tried it gives the same at every call."""

    def forward(net, x):
        net.calls += 1
        return net.n(x * (1 if net.calls < 3 else 2))

    model = Forward(forward, n=RPSU(64))
    model.calls = 0
    with pytest.raises(UnsupportedModelError, match="is another layer for another input"):
        to_state_machine(model, (4,))
