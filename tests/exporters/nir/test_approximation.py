"""Sigmoids as staircases without fine-tuning: with consent only, measured, and written down."""

from __future__ import annotations

import json

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.exporters.nir.machines import FAMILY, LEAK, MATRIX, PSU, STRICT, TRACES, chain, linear, neuron
from tests.oracles import estimated, output_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

LEVELS = (3, 7, 15, 31, 63, 127)
LAYERS = [
    linear(24, 6),
    neuron(LEAK, None, STRICT, estimator=o.Sigmoid(), threshold=0.6),
    linear(16, 24, seed=3),
    neuron(LEAK, TRACES, STRICT, estimator=o.Sigmoid(), threshold=0.3),
    linear(3, 16, seed=5),
]
MACHINE = chain((6,), *LAYERS)
CALIBRATION = np.random.default_rng(0).normal(0.5, 1.5, (20, 16, 6)).astype(np.float32)


def levels_by_hand(K):
    """logit(k/(K+1)), but 0.001 where that is 0; height 1/(K+1)."""
    share = np.arange(1, K + 1) / (K + 1)
    exact = np.where(np.isclose(share, 0.5), 0.001, np.log(np.where(share < 1, share / (1 - share), 1)))
    return o.Staircase(np.float32(exact), 1 / (K + 1), 0.5 / (K + 1))


def spikes(estimator, x):
    """Both layers, one behind the other, by the raw matrices in float64."""
    found, values = [], x.astype(np.float64)
    for layer in LAYERS:
        if isinstance(layer, ops.Linear):
            values = values @ layer.weight.T + layer.bias
        else:
            values = output_of(ops.SpikingNeuron(**{**vars(layer), "estimator": estimator}), values)
            found.append(values)
    return found


def flip_rate(K):
    """Share of all spikes of all layers that are others than with the sigmoid."""
    pairs = list(zip(spikes(o.Sigmoid(), CALIBRATION), spikes(levels_by_hand(K), CALIBRATION), strict=True))
    return sum((a != b).sum() for a, b in pairs) / sum(a.size for a, _ in pairs)


RATES = {K: flip_rate(K) for K in LEVELS}


@pytest.fixture
def export(tmp_path, monkeypatch):
    def run(machine=MACHINE, **options):
        return psu.export(machine, tmp_path / "net.nir", target="nir", allow_approximation=True, **options)

    return run


def test_more_levels_flip_less():
    """What the choice rests on."""
    assert RATES[3] > RATES[7] > RATES[15] > RATES[127] > 0


@pytest.mark.full
@pytest.mark.parametrize("K", [3, 7, 15, 31])
def test_the_fewest_levels_below_the_limit(export, K):
    """A limit between two measured rates, or exactly one of them."""
    for limit in (RATES[K], (RATES[K] + RATES[LEVELS[LEVELS.index(K) - 1]]) / 2 if K > 3 else 1.0):
        artifact = export(calibration=CALIBRATION, max_flip_rate=float(limit))
        assert artifact.fidelity == "approximate"
        levels, measured = artifact.approximations
        assert f"every sigmoid became a staircase of {K} levels" in levels
        assert f"on calibration data of 20 steps and 16 samples {RATES[K]:.3%} of the spikes flipped" == measured


@pytest.mark.full
def test_the_best_when_none_suffices(export):
    best = min(LEVELS, key=lambda K: (RATES[K], K))
    artifact = export(calibration=CALIBRATION, max_flip_rate=0.0)
    assert f"a staircase of {best} levels" in artifact.approximations[0]
    assert f"{RATES[best]:.3%} of the spikes flipped" in artifact.approximations[1]
    assert "above the 0.000% asked for: no number of levels stayed below it" in artifact.approximations[2]


@pytest.mark.full
@pytest.mark.parametrize("simulator", ["canonical", "portable"])
def test_the_file_says_so_and_does_so(export, graph_of, simulator):
    artifact = export(calibration=CALIBRATION, max_flip_rate=0.01, simulator=simulator)
    K = next(K for K in LEVELS if RATES[K] <= 0.01)
    runner = psu.load(artifact)
    for one in (artifact, runner.artifact):
        assert one.fidelity == "approximate"
        assert one.approximations == artifact.approximations
        assert one.machine_hash == MACHINE.content_hash
    ours = json.loads(graph_of(artifact.path).metadata["psu_deploy"])
    assert (ours["fidelity"], tuple(ours["approximations"])) == ("approximate", artifact.approximations)
    found = runner.trace(CALIBRATION).spikes
    for ours, theirs in zip(spikes(levels_by_hand(K), CALIBRATION), found.values(), strict=True):
        assert (ours != theirs).mean() < 1e-3  # float32 against float64 where a decision is close


@pytest.mark.full
def test_sup_norm_error(export):
    """Half a step, but in the middle."""
    artifact = export(calibration=CALIBRATION, max_flip_rate=1.0)
    grid = np.linspace(-9, 9, 2_000_001)
    error = np.abs(estimated(levels_by_hand(3), grid) - estimated(o.Sigmoid(), grid)).max()
    assert f"sup-norm error {error:.4f}" in artifact.approximations[0]


def test_without_sigmoids_it_stays_faithful(export):
    """Calibration is not even looked at."""
    for machine in (chain((3,), PSU), chain((3,), FAMILY["ipsu as coded"]), chain((3,), neuron(LEAK))):
        artifact = export(machine)
        assert (artifact.fidelity, artifact.approximations) == ("faithful", ())


def test_a_sigmoid_nobody_looks_through_is_none(export):
    """Without a reset the estimator estimates nothing."""
    assert export(chain((3,), neuron(LEAK, estimator=o.Sigmoid()))).fidelity == "faithful"


def test_without_consent_it_is_refused(tmp_path):
    with pytest.raises(psu.UnsupportedModelError, match="NIR has no sigmoid"):
        psu.export(MACHINE, tmp_path / "net.nir", target="nir")
    with pytest.raises(psu.InputError, match="calibration data measure an approximation; pass allow_appr"):
        psu.export(MACHINE, tmp_path / "net.nir", target="nir", calibration=CALIBRATION)


def test_what_else_is_unsupported_still_is(export, tmp_path):
    machine = chain((6,), linear(4, 6), neuron(MATRIX, LEAK, STRICT, estimator=o.Sigmoid()))
    with pytest.raises(psu.UnsupportedModelError, match="a learned T x T matrix varies with time"):
        export(machine, calibration=CALIBRATION[:6])
    with pytest.raises(psu.UnsupportedModelError, match="no pointwise nonlinearity"):
        export(chain((6,), *LAYERS, ops.Activation("sigmoid")), calibration=CALIBRATION)
    assert not any(tmp_path.iterdir())


WRONG = {
    "none": ({}, "allow_approximation needs calibration data"),
    "another shape": ({"calibration": CALIBRATION[..., :4]}, "x must be time-first"),
    "nan": ({"calibration": np.full((2, 1, 6), np.nan, np.float32)}, "NaN"),
    "a list": ({"calibration": [1.0]}, "must be a numpy array or a torch tensor"),
    "a negative rate": ({"calibration": CALIBRATION, "max_flip_rate": -0.1}, "max_flip_rate is a share of spikes"),
    "a rate above 1": ({"calibration": CALIBRATION, "max_flip_rate": 1.5}, "between 0 and 1, got 1.5"),
    "no rate": ({"calibration": CALIBRATION, "max_flip_rate": float("nan")}, "between 0 and 1, got nan"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments(export, tmp_path, kind):
    options, message = WRONG[kind]
    with pytest.raises(psu.InputError, match=message):
        export(**options)
    assert not any(tmp_path.iterdir())


def test_staircases_that_are_there_already_stay(export, graph_of):
    """Only sigmoids are replaced."""
    machine = chain((6,), linear(8, 6), FAMILY["psu, 3 level(s)"], linear(5, 8), *LAYERS[1:2])
    graph = graph_of(export(machine, calibration=CALIBRATION, max_flip_rate=1.0).path)
    kept = graph.nodes["b__staircase"].threshold
    assert kept.shape == (24,)
    expected = FAMILY["psu, 3 level(s)"].estimator.thresholds
    np.testing.assert_allclose(kept, np.repeat(expected, 8), rtol=1e-6)  # moved by one float


def test_nothing_is_changed_in_the_machine(export):
    before = MACHINE.content_hash
    export(calibration=CALIBRATION, max_flip_rate=1.0)
    assert MACHINE.content_hash == before
    assert isinstance(MACHINE.nodes[1].layer.estimator, o.Sigmoid)
