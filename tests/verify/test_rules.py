"""What is asked of a comparison: judged, measured or exact; and how that is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.verify import Comparison, EquivalenceReport, compare, merge
from tests.verify.networks import randomised

T, B = 6, 3


@pytest.fixture(scope="module")
def machine():
    torch.manual_seed(0)
    layers = nn.Linear(5, 7), psu.PSU(), nn.Linear(7, 4), psu.PSU(), nn.Linear(4, 3)
    return psu.to_state_machine(randomised(psu.SpikingSequential(*layers)), (5,))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(0.5, 2.0, (T, B, 5)).astype(np.float32)


def flipped(trace, *places, output=0.0):
    """A copy with other spikes at (layer, t, sample, neuron), and another output."""
    spikes = {name: values.copy() for name, values in trace.spikes.items()}
    for name, *at in places:
        spikes[name][tuple(at)] = 1 - spikes[name][tuple(at)]
    return replace(trace, spikes=spikes, output=trace.output + np.float32(output), potential={})


def compared(machine, x, second, rule):
    return compare(machine, x, ("one", machine.trace(x)), ("two", second), rule=rule)


def text(report, tmp_path):
    """Of the JSON, which has no NaN."""
    return json.loads(report.save(tmp_path / "report.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("rule", ["judged", "measured", "exact"])
def test_equal_runs_hold_under_every_rule(machine, x, rule, tmp_path):
    comparison = compared(machine, x, flipped(machine.trace(x)), rule)
    assert comparison.ok
    assert comparison.rule == rule
    assert (comparison.spike_flips, comparison.spikes_compared, comparison.max_abs_error) == (0, T * B * 11, 0)
    assert comparison.first_divergence is None
    assert text(EquivalenceReport((comparison,)), tmp_path)["comparisons"][0]["rule"] == rule


PLACES = [("3", 2, 1, 3), ("1", 4, 0, 6), ("3", 5, 2, 0)]


def test_an_exact_comparison_forgives_nothing(machine, x, tmp_path):
    comparison = compared(machine, x, flipped(machine.trace(x), *PLACES), "exact")
    assert not comparison.ok
    assert comparison.first_divergence[:4] == ("3", 2, 1, (3,))
    report = EquivalenceReport((comparison,))
    assert not report.ok
    assert report.verdict == (
        "NOT EQUIVALENT: two does not repeat the one: 3 of 198 spikes differ, outputs by up to 0, "
        "first at layer '3', step 2, sample 1, neuron (3,)"
    )
    assert "one vs two (number for number)" in str(report)
    said = text(report, tmp_path)
    assert said["ok"] is said["comparisons"][0]["ok"] is False
    assert said["first_divergence"] == {"layer": "3", "t": 2, "sample": 1, "neuron": [3], "margin": None, "bound": None}


def test_of_two_flips_of_one_step_the_earlier_layer_is_first(machine, x):
    comparison = compared(machine, x, flipped(machine.trace(x), ("3", 2, 0, 0), ("1", 2, 2, 6)), "exact")
    assert comparison.first_divergence[:4] == ("1", 2, 2, (6,))


def test_an_exact_comparison_forgives_no_output_either(machine, x):
    comparison = compared(machine, x, flipped(machine.trace(x), output=1e-3), "exact")
    assert not comparison.ok
    assert comparison.max_abs_error == pytest.approx(1e-3, rel=1e-2)
    verdict = EquivalenceReport((comparison,)).verdict
    assert "0 of 198 spikes differ, outputs by up to 0.001" in verdict
    assert "first at" not in verdict


def test_a_measurement_asks_for_nothing(machine, x, tmp_path):
    comparison = compared(machine, x, flipped(machine.trace(x), *PLACES, output=7.0), "measured")
    assert comparison.ok
    report = EquivalenceReport((comparison,))
    assert report.ok
    assert report.verdict == "MEASURED: rounding to integers changed 3 of 198 spikes (1.515%)"
    assert "one vs two (measured): max |dy| 7.00e+00" in str(report)
    said = text(report, tmp_path)
    assert said["ok"] is True
    assert said["first_divergence"]["margin"] is said["first_divergence"]["bound"] is None
    assert [layer["spike_flips"] for layer in said["comparisons"][0]["layers"]] == [1, 2]
    assert said["comparisons"][0]["disputed"] == []


@pytest.mark.parametrize("rule", ["measured", "exact"])
def test_holes_are_failures_under_every_rule(machine, x, rule, tmp_path):
    whole = flipped(machine.trace(x))
    missing = replace(whole, spikes={"1": whole.spikes["1"]})
    nan = replace(whole, output=np.full_like(whole.output, np.nan))
    half = replace(whole, spikes={**whole.spikes, "1": whole.spikes["1"] / 2})
    for broken, said in ((missing, "layer '3' is missing"), (nan, "NaN or infinity"), (half, "not all 0 or 1")):
        comparison = compared(machine, x, broken, rule)
        assert not comparison.ok
        assert comparison.rule == rule
        report = EquivalenceReport((comparison,))
        assert said in report.verdict
        assert text(report, tmp_path)["max_abs_error"] is None


def test_both_rules_in_one_report(machine, x):
    trace = machine.trace(x)
    measured = compared(machine, x, flipped(trace, *PLACES), "measured")
    kept = compared(machine, x, flipped(trace), "exact")
    broken = compared(machine, x, flipped(trace, PLACES[0]), "exact")
    verdict = EquivalenceReport((measured, kept)).verdict
    assert verdict == (
        "EQUIVALENT: 198 spikes compared, 0 flips; rounding to integers changed 3 of 198 spikes (1.515%)"
    )
    assert "does not repeat" in EquivalenceReport((measured, broken)).verdict


@pytest.mark.parametrize("rule", ["judged", "measured", "exact"])
def test_parts_of_a_batch_keep_their_rule(machine, x, rule):
    trace = machine.trace(x)
    wrong = flipped(trace, *PLACES) if rule != "judged" else flipped(trace)

    def part(start, stop):
        cut = {name: values[:, start:stop] for name, values in wrong.spikes.items()}
        own = x[:, start:stop]
        expected = machine.trace(own)
        second = replace(expected, spikes=cut, potential={}) if rule != "judged" else expected
        return compare(machine, own, ("one", expected), ("two", second), rule=rule)

    parts = [(start, part(start, stop)) for start, stop in ((0, 1), (1, 3))]
    merged = merge(parts)
    assert isinstance(merged, Comparison)
    assert merged.rule == rule
    assert merged.ok == (rule != "exact")
    assert merged.spikes_compared == T * B * 11
    if rule != "judged":
        assert merged.spike_flips == 3
        assert merged.first_divergence[:4] == ("3", 2, 1, (3,))
