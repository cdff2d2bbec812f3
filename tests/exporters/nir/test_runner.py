"""A runner steps, runs and traces alike, starts over when told, and shares nothing with another."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import psu_deploy as psu
from tests.exporters.nir.machines import ENGINES, MACHINES, STATIC, inputs

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # what simulators use is theirs to mend
]

NAME = "captured, dense"
MACHINE = MACHINES[NAME]
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
"""Of float32; sinabs sums a sequence in another order than a step."""


@pytest.fixture(params=ENGINES)
def runner(request, file_of, opened):
    """The same network in every engine."""
    dialect = request.param if request.param in ("canonical", "sinabs") else "portable"
    return opened(file_of(NAME, dialect), request.param)


def x(T=6, B=2, seed=0):
    return inputs(MACHINE, T, B) if seed == 0 else np.roll(inputs(MACHINE, T, B), seed, axis=0)


def test_stepping_running_and_tracing_are_one(runner):
    expected = MACHINE.run(x())
    np.testing.assert_allclose(runner.run(x()), expected, **ROUNDING)
    np.testing.assert_array_equal(runner.run(x()), runner.run(x()))
    trace = runner.trace(x())
    np.testing.assert_array_equal(trace.output, runner.run(x()))
    for name, spikes in MACHINE.trace(x()).spikes.items():
        np.testing.assert_array_equal(trace.spikes[name], spikes)
    runner.reset(2)
    np.testing.assert_allclose(np.stack([runner.step(x_t) for x_t in x()]), expected, **ROUNDING)


def test_reset_forgets(runner):
    first = runner.run(x())
    runner.reset(2)
    np.testing.assert_array_equal(runner.run(x(), reset=False), first)
    assert np.abs(runner.run(x(), reset=False) - first).max() > 1e-3


def test_going_on(runner):
    whole = MACHINE.run(x())
    first = runner.run(x()[:2])
    second = runner.run(x()[2:], reset=False)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, **ROUNDING)


def test_another_batch_size(runner):
    for B in (1, 4, 2):
        np.testing.assert_allclose(runner.run(x(B=B)), MACHINE.run(x(B=B)), **ROUNDING)
        assert runner.batch_size == B
    with pytest.raises(psu.StateError, match=r"the state is that of 2 sample\(s\), x has 3"):
        runner.run(x(B=3), reset=False)
    with pytest.raises(psu.StateError, match=r"call reset\(batch_size=3\) first"):
        runner.step(x(B=3)[0])
    np.testing.assert_array_equal(runner.run(x(), reset=True), runner.trace(x()).output)


def test_a_step_before_the_first_reset(runner):
    assert runner.batch_size is None
    with pytest.raises(psu.StateError, match=re.escape("call reset(batch_size=...) before the first step")):
        runner.step(x()[0])
    with pytest.raises(psu.StateError, match=re.escape("call reset(batch_size=...) before the first step")):
        runner.run(x(), reset=False)


def test_a_trace_disturbs_nothing(runner):
    whole = runner.run(x())
    runner.reset(2)
    first = [runner.step(x_t) for x_t in x()[:3]]
    runner.trace(x(4, 3))
    np.testing.assert_allclose(np.stack([*first, *(runner.step(x_t) for x_t in x()[3:])]), whole, **ROUNDING)


def test_two_runners_do_not_disturb_each_other(runner, opened):
    """snntorch keeps its state in its modules."""
    path, engine = runner.artifact.path, runner.name.removeprefix("nir in ").replace("psu_deploy", "canonical")
    other = opened(path, engine)
    a, b = x(), x(seed=2)
    expected = runner.run(a), runner.run(b)
    runner.reset(2)
    other.reset(2)
    rows = [(runner.step(a_t), other.step(b_t)) for a_t, b_t in zip(a, b, strict=True)]
    for found, one in zip(zip(*rows, strict=True), expected, strict=True):
        np.testing.assert_allclose(np.stack(found), one, **ROUNDING)


def test_input_is_not_changed_nor_output_shared(runner):
    given = x()
    kept = given.copy()
    given.setflags(write=False)
    y = runner.run(given)
    np.testing.assert_array_equal(given, kept)
    again = y.copy()
    y[:] = 7.0
    np.testing.assert_array_equal(runner.run(given), again)


def test_views_in_any_order(runner):
    strided = np.ascontiguousarray(x().transpose(1, 0, 2)).transpose(1, 0, 2)
    np.testing.assert_array_equal(runner.run(strided), runner.run(x()))


def with_nan():
    values = x()
    values[1, 0, 2] = np.nan
    return values


WRONG = {
    "nan": (with_nan(), "x holds NaN or infinity, first at index"),
    "infinity": (np.full((1, 1, 6), np.inf, np.float32), "x holds NaN or infinity"),
    "float64": (x().astype(np.float64), "x must be float32, got float64"),
    "integers": (x().astype(np.int32), "x must be float32, got int32"),
    "features": (x()[..., :5], "x must be time-first"),
    "no batch": (x()[0], "x must be time-first"),
    "no steps": (x()[:0], "x must be time-first"),
    "nobody": (x()[:, :0], "x must be time-first"),
    "torch": (torch.from_numpy(x()), "a NIR runner takes numpy"),
    "a list": (x().tolist(), "x must be a numpy array or a torch tensor, got list"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("way", ["run", "trace"])
def test_wrong_input(file_of, opened, kind, way):
    values, message = WRONG[kind]
    runner = opened(file_of(NAME, "canonical"), "canonical")
    with pytest.raises(psu.InputError, match=re.escape(message)):
        getattr(runner, way)(values)


@pytest.mark.parametrize("kind", ["nan", "float64", "features", "torch"])
def test_a_wrong_step_leaves_the_state_as_it_is(file_of, opened, kind):
    runner = opened(file_of(NAME, "canonical"), "canonical")
    whole = runner.run(x())
    runner.reset(2)
    first = runner.step(x()[0])
    with pytest.raises(psu.InputError):
        runner.step(WRONG[kind][0][1])
    np.testing.assert_array_equal(np.stack([first, *(runner.step(x_t) for x_t in x()[1:])]), whole)


@pytest.mark.parametrize("batch", [0, -1, 1.0, "2", None])
def test_a_wrong_batch_size(runner, batch):
    with pytest.raises(psu.InputError, match="batch_size must be a whole number >= 1"):
        runner.reset(batch)


def test_a_state_is_refused(runner):
    message = "a NIR simulator keeps its state to itself; run the sequence from its start instead"
    for call in (lambda state: runner.reset(2, state), lambda state: runner.trace(x(), state)):
        for state in ({"1.V": np.zeros((2, 12))}, {}):  # its own `state` is empty, and does not say where it is
            with pytest.raises(psu.StateError, match=message):
                call(state)
        call(None)
    assert runner.state == {}


@pytest.mark.parametrize("kind", ["mean", "sum", "last"])
@pytest.mark.parametrize("engine", ENGINES)
def test_readouts_start_over_too(file_of, opened, kind, engine):
    dialect = engine if engine in ("canonical", "sinabs") else "portable"
    machine = MACHINES[f"readout {kind}"]
    runner, given = opened(file_of(f"readout {kind}", dialect), engine), inputs(machine)
    for _ in range(2):
        np.testing.assert_allclose(runner.run(given), machine.run(given), **ROUNDING)
    runner.run(given[:4])
    np.testing.assert_allclose(runner.run(given[4:], reset=False), machine.run(given)[4:], **ROUNDING)


def test_a_static_input_must_not_change(file_of, opened):
    runner = opened(file_of("static input", "canonical"), "canonical")
    given = inputs(STATIC["static input"])
    with pytest.raises(psu.InputError, match="shown at every step, but x changes from step to step"):
        runner.run(np.concatenate([given, given + 1]))
    runner.run(given)


def test_a_static_input_must_not_change_from_call_to_call(file_of, opened):
    machine, runner = STATIC["static input"], opened(file_of("static input", "canonical"), "canonical")
    given = inputs(machine)
    runner.run(given)
    runner.run(given, reset=False)
    with pytest.raises(psu.InputError, match="shown at every step, but x changes"):
        runner.run(given + 1, reset=False)


def test_a_static_input_must_not_change_from_step_to_step(file_of, opened):
    runner, given = opened(file_of("static input", "canonical"), "canonical"), inputs(STATIC["static input"])
    runner.reset(given.shape[1])
    runner.step(given[0])
    with pytest.raises(psu.InputError, match="x changes from step to step"):
        runner.step(given[0] + 1)


def test_what_sinabs_cannot_count_is_said(tmp_path):
    machine = MACHINES["spikes of the input"]
    path = psu.export(machine, tmp_path / "net.nir", target="nir", simulator="sinabs").path
    with pytest.raises(psu.InputError, match="spikes several times in a step"):
        psu.load(path).run(np.full((1, 1, 4), 1e12, np.float32))


def test_a_large_potential_in_sinabs(tmp_path):
    machine = MACHINES["spikes of the input"]
    path = psu.export(machine, tmp_path / "net.nir", target="nir", simulator="sinabs").path
    given = np.full((1, 1, 4), 5000.0, np.float32)
    assert set(psu.load(path).trace(given).spikes["a"].ravel()) == {1.0}
