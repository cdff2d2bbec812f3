"""The report as text for people and as JSON for machines."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.verify import compare
from tests.verify.networks import randomised


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = (nn.Linear(4, 6), psu.PSU(), nn.Linear(6, 5), psu.PSU(), nn.Linear(5, 2))
    return randomised(psu.SpikingSequential(*layers))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(0.5, 2.0, (10, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def good(model, x, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "net.onnx"
    return psu.verify(model, psu.export(model, path, input_shape=(4,)), x)


@pytest.fixture
def traces(model, x):
    machine = psu.to_state_machine(model, (4,))
    return machine, machine.trace(x), machine.trace(x)


@pytest.fixture
def flipped(traces, x):
    """One spike differs."""
    machine, first, second = traces
    second.spikes["3"][2, 1, 4] = 1 - second.spikes["3"][2, 1, 4]
    return psu.EquivalenceReport((compare(machine, x, ("one", first), ("other", second)),), ("mind the gap",))


@pytest.fixture
def missing(traces, x):
    """A layer is missing, so there is nothing to compare."""
    machine, first, second = traces
    del second.spikes["3"]
    return psu.EquivalenceReport((compare(machine, x, ("one", first), ("other", second)),))


def strictly(text):
    """NaN and Infinity are not JSON, whatever Python thinks."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.full
def test_text_has_a_row_per_layer(good):
    text = str(good)
    for first, second in (("module", "machine"), ("machine", "onnx")):
        assert re.search(rf"^{first} vs {second}: max \|dy\| \d\.\d\de[+-]\d\d$", text, re.M)
    assert text.count("layer  spikes compared  flips  firing rate  max |dV|") == 2
    rows = re.findall(r"^  ([13]) +(\d+) +(\d+) +(\d\.\d{3}) +\S+$", text, re.M)
    expected = [
        (layer.name, str(layer.spikes_compared), "0", f"{layer.firing_rate:.3f}")
        for comparison in good.comparisons
        for layer in comparison.layers
    ]
    assert rows == expected
    assert text.endswith(good.verdict) or good.verdict in text


def test_verdict_of_an_equal_pair(good):
    assert good.verdict == f"EQUIVALENT: {2 * 10 * 3 * 11} spikes compared, 0 flips"


def test_text_names_the_first_flip(flipped):
    text = str(flipped)
    assert "NOT EQUIVALENT" in text
    assert "layer '3', step 2, sample 1, neuron (4,)" in text
    assert "note: mind the gap" in text


def test_text_of_a_report_without_layers(missing):
    assert str(missing).endswith("NOT EQUIVALENT: other: layer '3' is missing")


def test_json_of_an_equal_pair(good, tmp_path):
    path = good.save(tmp_path / "deep" / "report.json")
    found = strictly(path.read_text())
    assert found == json.loads(json.dumps(good.to_dict()))
    assert found["ok"] is True
    assert found["spikes_compared"] == good.spikes_compared
    assert found["first_divergence"] is None
    assert [comparison["first"] for comparison in found["comparisons"]] == ["module", "machine"]
    layer = found["comparisons"][0]["layers"][1]
    assert layer["name"] == "3"
    assert layer["spikes_compared"] == 10 * 3 * 5


def test_json_of_a_flip(flipped, tmp_path):
    found = strictly(flipped.save(tmp_path / "report.json").read_text())
    assert found["ok"] is False
    assert found["notes"] == ["mind the gap"]
    assert found["first_divergence"]["layer"] == "3"
    assert found["first_divergence"]["neuron"] == [4]
    (decision,) = [d for d in found["comparisons"][0]["disputed"] if d["layer"] == "3"]
    assert decision["knife_edge"] is False


def test_json_of_a_report_without_layers(missing, tmp_path):
    found = strictly(missing.save(tmp_path / "report.json").read_text())
    assert found["ok"] is False
    assert found["max_abs_error"] is None
    assert found["comparisons"][0]["failures"] == ["other: layer '3' is missing"]


def test_a_report_of_nothing_is_not_ok():
    report = psu.EquivalenceReport(())
    assert not report.ok
    assert report.verdict == "NOT EQUIVALENT: nothing was compared"
    str(report)


def test_saving_is_whole_or_not_at_all(good, tmp_path):
    with pytest.raises(psu.ArtifactError, match="cannot write"):
        good.save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(psu.ArtifactError, match="cannot write"):
        good.save(tmp_path / "file" / "report.json")
