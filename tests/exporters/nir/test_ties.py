"""A potential of exactly the threshold fires or not as the neuron says, in every engine. All numbers are dyadic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops as o
from tests import oracles
from tests.exporters.nir.machines import chain, lif, neuron
from tests.helpers import decide

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

STAIRS = o.Staircase(np.array([-0.5, 0.0, 0.5]), 0.25, 0.125)
NEURONS = {
    "psu": neuron(o.Leak(0.5, 0.5), None, o.StrictLeak(1.0, 0.5), estimator=STAIRS),
    "ipsu": neuron(
        o.Exponentials(np.array([0.25, 0.25]), np.array([0.5, 0.25]), 0.125),
        o.Identity(),
        o.StrictLeak(0.5, 0.5),
        estimator=STAIRS,
    ),
    "sliding": neuron(o.Window(np.array([[1.0, 0.5, -0.25]]), np.array([0.25]), time_invariant=True)),
    "lif hard": lif(2.0, True, "hard"),
    "lif hard undivided": lif(2.0, False, "hard"),
    "lif hard without memory": lif(1.0, True, "hard"),
    "lif soft": lif(2.0, True, "soft"),
    "if soft": lif(None, False, "soft"),
    "if hard": lif(None, False, "hard"),
}
READERS = (
    ("canonical", "canonical"),
    *(("portable", engine) for engine in ("canonical", "norse", "snntorch", "spikingjelly")),
    *((engine, engine) for engine in ("norse", "snntorch", "spikingjelly")),
)
T, N = 6, 96


def tied(unit, seed=0):
    """Input of which every third decision is an exact tie; a third of the neurons hear nothing for two steps."""
    random = np.random.default_rng(seed)
    x = np.zeros((T, 1, N))
    wanted = random.choice([0.0, 0.0, 0.25, -0.25, 1 / 64, -1 / 64], x.shape)
    for t in range(T):
        now = (wanted[t] - margin(unit, x)[t]) / share(unit)
        x[t] = np.where((t < 2) & (np.arange(N) < N // 3), 0.0, now)
    np.testing.assert_array_equal(x.astype(np.float32), x)
    assert (margin(unit, x) == 0).mean() > 0.2
    return x.astype(np.float32)


def share(unit):
    """What one unit of input adds to the margin at once."""
    if hasattr(unit, "integrate"):
        return oracles.matrix_of(unit.integrate, 1)[0][0, 0]
    return 1 / unit.tau if unit.decay_input else 1.0


def margin(unit, x):
    """V - R - V_th, H - V_th."""
    if hasattr(unit, "integrate"):
        V = oracles.filtered(unit.integrate, x)
        if unit.reset is None:
            return V - unit.threshold
        E = V if unit.estimate is None else oracles.filtered(unit.estimate, x)
        return V - oracles.filtered(unit.reset, oracles.estimated(unit.estimator, E)) - unit.threshold
    V, rows = np.zeros_like(x[0]), []
    for now in x:
        H = V - (0.0 if unit.tau is None else V / unit.tau) + (now / unit.tau if unit.decay_input else now)
        fires = decide(H - unit.threshold, unit.fire_on)
        V = H - unit.threshold * fires if unit.reset == "soft" else H * (1 - fires)
        rows.append(H - unit.threshold)
    return np.stack(rows)


def readable(name, threshold, fire_on, dialect):
    """Who can hold a membrane that resets to zero: none without leak in two of three, none that rests above V_th."""
    if name == "if hard":
        return dialect in ("canonical", "spikingjelly")
    if name.startswith("lif hard") and dialect in ("portable", "snntorch"):
        moved_up = threshold == 0 and fire_on == ">" and dialect == "portable"
        return threshold > 0 or moved_up
    return True


@pytest.fixture(scope="module")
def file_with_ties(tmp_path_factory):
    """Written once per neuron, without the exporter's own check."""
    folder, files = tmp_path_factory.mktemp("ties"), {}

    def export(unit, dialect, *key):
        if (dialect, *key) not in files:
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(psu.exporters.exporter("nir").__globals__, "self_check", lambda *_: None)
                patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)
                path = folder / f"{len(files)}.nir"
                psu.export(chain((N,), unit), path, target="nir", simulator=dialect)
            files[dialect, *key] = path
        return files[dialect, *key]

    return export


LEFT_OVER = "norse rounds old + (new - old): more than the float by which a threshold of zero or less is moved"
IN_NORSE = {("portable", "norse"), ("norse", "norse")}
KNOWN = {
    ("psu", 0.0, ">="): (IN_NORSE, LEFT_OVER),
    ("lif soft", 0.0, ">="): (IN_NORSE, LEFT_OVER),
    ("if soft", 0.0, ">="): (IN_NORSE, LEFT_OVER),
    ("ipsu", 0.0, ">"): (IN_NORSE, LEFT_OVER),
    ("ipsu", -0.5, ">"): (IN_NORSE, LEFT_OVER),
    ("ipsu", -0.5, ">="): (IN_NORSE, LEFT_OVER),
    ("ipsu", 0.0, ">="): (IN_NORSE, LEFT_OVER),
    ("sliding", 0.0, ">="): (IN_NORSE, LEFT_OVER),
}
"""What cannot be helped: neuron, threshold, fire_on -> dialects and engines that decide some tie wrong, and why."""


def _cases():
    for name, threshold, fire_on, reader in product(NEURONS, (0.5, 0.0, -0.5), (">=", ">"), READERS):
        wrong, why = KNOWN.get((name, threshold, fire_on), ((), ""))
        marks = [pytest.mark.xfail(reason=why, strict=True, raises=AssertionError)] if reader in wrong else []
        yield pytest.param(name, threshold, fire_on, *reader, marks=marks)


@pytest.mark.rows(8)
@pytest.mark.parametrize(("name", "threshold", "fire_on", "dialect", "engine"), [*_cases()])
def test_a_tie_is_decided_as_the_neuron_says(file_with_ties, run_in, name, threshold, fire_on, dialect, engine):
    unit = replace(NEURONS[name], threshold=threshold, fire_on=fire_on)
    if not readable(name, threshold, fire_on, dialect):
        with pytest.raises(psu.UnsupportedModelError, match=r"cannot read (IF|LIF with a threshold of zero or less)"):
            file_with_ties(unit, dialect, name, threshold, fire_on)
        return
    x = tied(unit)
    _, spikes = run_in(file_with_ties(unit, dialect, name, threshold, fire_on), engine, x)
    np.testing.assert_array_equal(spikes["a"], oracles.output_of(unit, x.astype(np.float64)))


FORGETFUL = {
    "identity": neuron(o.Identity()),
    "psu without memory": neuron(o.Leak(0.5, 0.0), None, o.StrictLeak(1.0, 0.0), estimator=STAIRS),
    "reset by the current": neuron(o.Identity(), o.Identity(), o.StrictLeak(0.5, 0.0), estimator=o.RawCurrent()),
}


@pytest.mark.rows(4)
@pytest.mark.parametrize("fire_on", [">=", ">"])
@pytest.mark.parametrize("threshold", [0.5, 0.0, -0.5])
@pytest.mark.parametrize("name", FORGETFUL)
def test_a_tie_in_sinabs(file_with_ties, run_in, name, threshold, fire_on):
    """Where nothing is remembered: its decays are exp(-1/tau), not dyadic."""
    unit = replace(FORGETFUL[name], threshold=threshold, fire_on=fire_on)
    x = tied(unit)
    _, spikes = run_in(file_with_ties(unit, "sinabs", name, threshold, fire_on), "sinabs", x)
    np.testing.assert_array_equal(spikes["a"], oracles.output_of(unit, x.astype(np.float64)))


@pytest.mark.parametrize(("dialect", "engine"), READERS)
@pytest.mark.parametrize("fire_on", [">=", ">"])
@pytest.mark.parametrize("threshold", [0.4, 1.0, -0.3])
def test_the_floats_next_to_the_threshold(file_with_ties, run_in, threshold, fire_on, dialect, engine):
    """Decided as they are, but for the one float that a portable file gives up, on the silent or on the loud side."""
    unit = neuron(o.Identity(), threshold=threshold, fire_on=fire_on)
    level = np.float32(threshold)
    below, above = (np.nextafter(level, np.float32(end)) for end in (-np.inf, np.inf))
    x = np.repeat(np.array([below, level, above], np.float32), N // 3)[None, None]
    _, spikes = run_in(file_with_ties(unit, dialect, "identity", threshold, fire_on), engine, x)
    expected = np.array([Fraction(float(v)) - Fraction(float(level)) for v in x.ravel()])
    fires = np.array([e >= 0 if fire_on == ">=" else e > 0 for e in expected], np.float32)
    given_up = below if fire_on == ">=" else above
    sure = np.ones(N, bool) if dialect != "portable" else x.ravel() != given_up
    np.testing.assert_array_equal(spikes["a"].ravel()[sure], fires[sure])


@pytest.mark.full
@pytest.mark.rows(4)
@pytest.mark.parametrize(("dialect", "engine"), [*READERS, ("sinabs", "sinabs")])
@pytest.mark.parametrize("thresholds", [[0.0], [-1.0, 0.0, 1.0]])
def test_silence_on_a_stair(file_with_ties, run_in, thresholds, dialect, engine):
    """E = 0 is at the stair, not below it: `S'` counts it, and the reset shows it a step later."""
    stairs = o.Staircase(np.array(thresholds), 0.5, 0.25)
    counted = len(thresholds) // 2 + 1
    after_silence = 0.5 * (0.5 * counted + 0.25)  # R at step 1: decay * (offset + height * count), gain 1
    for threshold in (-after_silence - 0.125, -after_silence + 0.125):
        unit = neuron(o.Leak(0.5, 0.5), None, o.StrictLeak(1.0, 0.5), estimator=stairs, threshold=threshold)
        path = file_with_ties(unit, dialect, "silence", len(thresholds), threshold)
        _, spikes = run_in(path, engine, np.zeros((2, 1, N), np.float32))
        assert set(spikes["a"][1].ravel()) == {float(threshold < -after_silence)}
