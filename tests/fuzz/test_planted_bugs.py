"""A bug in a target is found within a few networks, and comes out as a network of three layers at most."""

from __future__ import annotations

import pytest

from psu_deploy.fuzz.case import drawn_case, load_case, save_case
from psu_deploy.fuzz.judge import judge
from psu_deploy.fuzz.reduce import reduced

MOST = {"tie": 30, "swap": 30, "bias": 20, "float16": 40, "threshold": 60, "delay": 5, "horizon": 30, "forgets": 30}
"""Bug -> networks within which it is found. Ties are where nothing rounds: one network in three."""


def first_failure(most, folder):
    for number in range(most):
        case = drawn_case(0, number, "planted")
        outcome = judge(case, folder)
        if outcome.status == "failed":
            return case, outcome
    return None


@pytest.mark.full
@pytest.mark.parametrize("bug", MOST)
def test_it_is_found_and_made_small(bug, planted, tmp_path):
    planted(bug)
    found = first_failure(MOST[bug], tmp_path)
    assert found is not None
    case, outcome = found
    small, smaller = reduced(case, outcome, lambda one: judge(one, tmp_path), 30.0)
    assert len(small.machine.nodes) <= 3
    assert small.x.size <= case.x.size
    assert smaller.kind == outcome.kind
    save_case(small, tmp_path / "case.psm")
    again = load_case(tmp_path / "case.psm")
    assert again.machine.content_hash == small.machine.content_hash
    assert judge(again, tmp_path) == smaller
    planted("")
    assert judge(again, tmp_path).status in ("ok", "unproven")


@pytest.mark.full
def test_nothing_is_found_where_nothing_is_wrong(planted, tmp_path):
    planted("")
    assert first_failure(12, tmp_path) is None
