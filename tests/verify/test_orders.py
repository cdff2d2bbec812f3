"""Numbers that are too close to rank: what verify says of an order that rounding may change."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from tests.zoo import chain

ORDERS = {
    "largest": ops.ArgMax(0),
    "two largest": ops.ArgTopK(0, 2),
    "smallest and others": ops.ArgTopK(0, 3, largest=False),
}


def ranked(layer, *, late=False):
    """Three sums of three numbers each, and their order; behind a convolution that looks ahead, too."""
    ahead = (ops.TimeConv(np.eye(9)[:, :, None] * [1.0, 0.0], None, 1, lookahead=1),) if late else ()
    sums = ops.Linear(np.kron(np.eye(3), np.ones(3)))
    return chain((9,), *ahead, sums, layer, names=["ahead", "sums", "order"][not late :])


def fed(*at, gap=0.0):
    """The two larger sums of these steps and samples differ by so little, all others by one."""
    x = np.tile(np.repeat([1.0, 2.0, 3.0], 3) / 3, (8, 5, 1))
    for t, sample in at:
        x[t, sample, 3:6] = x[t, sample, 6:] - gap / 3
    return np.float32(x)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("together", [True, False])
def test_it_says_which_layer_step_and_sample(name, late, together, monkeypatch):
    if not together:
        monkeypatch.setattr("psu_deploy.forms._DECISIONS_AT_ONCE", 1)
    machine = ranked(ORDERS[name], late=late)
    report = psu.verify(machine, machine, fed((6, 1), (3, 4), (3, 2)), allow_silent=True)
    assert report.status == "NOT PROVEN"
    (ties,) = report.comparisons[0].ties
    assert ties[:4] == ("order", {"largest": 3}.get(name, 6), 3, 2)
    assert ties.gap == 0.0
    assert 0 < ties.bound < 1e-4
    assert "layer 'order' ranks numbers" in report.verdict
    assert "first at step 3, sample 2, where two differ by 0 and rounding moves that by up to" in report.verdict
    assert "return the numbers and rank what comes out" in report.verdict
    assert report.to_dict()["comparisons"][0]["ties"] == [ties._asdict()]


def test_a_gap_is_measured_by_its_bound():
    """What is just inside is open, what is just outside is not."""
    machine = ranked(ORDERS["largest"])
    (ties,) = psu.verify(machine, machine, fed((0, 0)), allow_silent=True).comparisons[0].ties
    for share, count in ((0.98, 1), (1.02, 0)):
        report = psu.verify(machine, machine, fed((0, 0), gap=share * ties.bound), allow_silent=True)
        found = report.comparisons[0].ties
        assert len(found) == count
        assert all(one.gap == pytest.approx(share * ties.bound, rel=0.01) for one in found)


def test_a_few_that_are_open_are_said_beside_the_verdict():
    machine = ranked(ORDERS["largest"])
    x = np.tile(fed(), (1, 30, 1))
    x[2, 7, 3:6] = x[2, 7, 6:]
    report = psu.verify(machine, machine, x, allow_silent=True)
    assert report.ok
    assert report.verdict.endswith("; layer 'order' ranks numbers too close to tell in 1 place")


def test_equal_numbers_that_nothing_rounds():
    """The first of them is the largest in any arithmetic; in an order of all, engines differ."""
    x = np.float32(np.tile([2.0, 1.0, 2.0], (3, 2, 1)))
    machine = chain((3,), ops.ArgMax(0))
    assert psu.verify(machine, machine, x, allow_silent=True).ok
    machine = chain((3,), ops.ArgTopK(0, 3))
    assert "where two differ by 0 and rounding moves" in psu.verify(machine, machine, x, allow_silent=True).verdict
