"""Random machines over the whole vocabulary, every layer behind every other: what holds op by op holds in networks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import to_state_machine
from psu_deploy.exporters import EXPORTERS
from psu_deploy.fuzz.grow import random_machine
from psu_deploy.fuzz.layers import JOINING, MAKERS
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.verify import aligned_run, certify
from tests import oracles
from tests.exporters.onnx.test_other_engines import LEVELS, optimised
from tests.helpers import joined, step_by_step
from tests.random_modules import attention, enlivened, random_module
from tests.test_zoo import LOAD, exported, fed, with_silence

IN_FLOAT64 = {"rtol": 1e-8, "atol": 1e-8}
"""Functions one behind another, divisions by small numbers among them; a wrong formula is off by far more."""

KINDS = (*MAKERS, *JOINING)
SEEDS = range(1000)

EXTREMES = {"zeros": 0.0, "equal": 1.0, "large": 1e4, "very small": 1e-30, "very negative": -1e4}


@pytest.mark.rows(15)
@pytest.mark.parametrize("seed", SEEDS)
def test_machine_and_file_are_the_mathematics(seed, tmp_path):
    """The machine in float64 is the oracle; the file is equivalent, saved and loaded it is the same."""
    machine = random_machine(seed)
    x = fed(machine)
    exact = with_silence(machine, x).astype(np.float64)
    expected, trace = oracles.run(machine, exact), machine.trace(exact)
    np.testing.assert_allclose(joined(trace.output), expected[machine.output], **IN_FLOAT64)
    for name, spikes in trace.spikes.items():
        np.testing.assert_array_equal(spikes, expected[name])
    assert StateMachine.load(machine.save(tmp_path / "net.psm")).content_hash == machine.content_hash
    path = psu.export(machine, tmp_path / "net.onnx").path
    onnx.checker.check_model(path, full_check=True)
    report = psu.verify(machine, psu.load(path, threads=1), x, allow_silent=True)
    assert report.status != "NOT EQUIVALENT", str(report)
    assert report.ok or _rounding_may_matter(machine, x), str(report)


def _rounding_may_matter(machine, x):
    """Whether float32 itself, summed otherwise, is off by a noticeable part: then nothing can be proven."""
    bounds = certify(machine, x, aligned_run(machine, machine.trace, x)).bounds
    return max(float(bound.max()) for bound in (*bounds.outputs.values(), *bounds.margin.values())) > 0.01


@pytest.mark.full
@pytest.mark.rows(4)
@pytest.mark.parametrize("seed", SEEDS[:200])
def test_at_every_level_of_optimisation(seed, tmp_path):
    """State threaded by hand; a file whose spikes were others would be off by more than its bounds."""
    machine = random_machine(seed)
    x = fed(machine)
    path = psu.export(machine, tmp_path / "net.onnx").path
    certificate = certify(machine, x, aligned_run(machine, psu.load(path, threads=1).trace, x))
    for level in LEVELS:
        session, outputs = optimised(path, level), []
        state = {name: np.asarray(value) for name, value in machine.initial_state(2).items()}
        for x_t in with_silence(machine, x):
            results = session.run(None, {"x": x_t, **state})
            given, following = results[: len(machine.outputs)], results[len(machine.outputs) :]
            state = dict(zip(state, following, strict=True))
            outputs.append(given)
        for name, *rows in zip(machine.outputs, *outputs, strict=True):
            error = np.abs(np.stack(rows)[machine.latency :] - certificate.exact.outputs[name].numpy())
            assert (error <= certificate.bounds.outputs[name].numpy()).all(), (level, name)


@pytest.mark.rows(4)
@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS[:200])
def test_a_sequence_in_two_parts(seed, tmp_path):
    """Stopped in the middle and taken up by another runner; the batch of one is the batch of five."""
    machine = random_machine(seed)
    x = with_silence(machine, fed(machine, 5))
    whole, _ = step_by_step(machine, x)
    path, half = psu.export(machine, tmp_path / "net.onnx").path, len(x) // 2
    first, second = psu.load(path, threads=1), psu.load(path, threads=1)
    trace = first.trace(x[:half])
    state = {**machine.initial_state(5), **trace.state}
    state |= {"step": np.asarray(half)} if "step" in state else {}
    resumed = np.concatenate([joined(trace.output), joined(second.trace(x[half:], state).output)])
    np.testing.assert_array_equal(resumed, joined(first.run(x)))
    np.testing.assert_array_equal(joined(machine.run(x)), joined(whole))
    np.testing.assert_allclose(joined(first.run(x[:, :1])), joined(first.run(x))[:, :1], rtol=1e-3, atol=1e-3)


@pytest.mark.rows(8)
@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS[:200])
@pytest.mark.parametrize("kind", EXTREMES)
def test_extreme_inputs(kind, seed, tmp_path):
    """Within the bounds, or an overflow that is said."""
    machine = random_machine(seed)
    x = np.full_like(fed(machine), EXTREMES[kind])
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    if _overflows(machine, x):
        with pytest.raises(psu.StateError, match="overflowed"):
            aligned_run(machine, runner.trace, x)
        return
    certificate = certify(machine, x, aligned_run(machine, runner.trace, x))
    assert certificate.ok, (certificate.wrong, certificate.disputed)


def _overflows(machine, x):
    try:
        aligned_run(machine, machine.trace, x)
    except psu.StateError:
        return True
    return False


CHANGES = {
    ops.LayerNorm: lambda layer: ops.LayerNorm(layer.shape, layer.eps * 2, layer.weight, layer.bias),
    ops.RMSNorm: lambda layer: ops.RMSNorm(layer.shape, layer.eps * 2, layer.weight),
    ops.GroupNorm: lambda layer: ops.GroupNorm(layer.groups, layer.eps * 2, layer.weight, layer.bias),
    ops.Take: lambda layer: ops.Take(layer.axis, (*layer.indices[:-1], max(0, layer.indices[-1] - 1) or 1)),
    ops.LeakyReLU: lambda layer: ops.LeakyReLU(layer.slope * 1.001),
    ops.PReLU: lambda layer: ops.PReLU(layer.slopes * 1.001),
    ops.ELU: lambda layer: ops.ELU(layer.alpha * 1.001, layer.scale, layer.rate),
    ops.Softplus: lambda layer: ops.Softplus(layer.beta * 1.001, layer.threshold),
    ops.Activation: lambda layer: ops.Activation("tanh" if layer.kind != "tanh" else "erf"),
    ops.Softmax: lambda layer: ops.Softmax(layer.axis - 1 if layer.axis else 1),
    ops.LogSoftmax: lambda layer: ops.LogSoftmax(layer.axis - 1 if layer.axis else 1),
    ops.Permute: lambda layer: ops.Permute(layer.axes[::-1]),
    ops.Project: lambda layer: ops.Project(layer.matrix * 1.001, layer.axis),
    ops.Affine: lambda layer: ops.Affine(layer.scale * 1.001, layer.shift),
    ops.Clamp: lambda layer: ops.Clamp(layer.low, layer.low) if layer.low is not None else ops.Clamp(None, 9.0),
}
"""Kind -> the same layer with one number wrong."""


@pytest.mark.full
@pytest.mark.rows(5)
@pytest.mark.parametrize("kind", CHANGES)
def test_one_wrong_number_is_found(kind, tmp_path):
    """Where it is: the layer is named."""
    found = 0
    for seed in SEEDS[:60]:
        right = random_machine(seed)
        wrong = _changed(right, kind)
        if wrong is None:
            continue
        machine, name = wrong
        report = psu.verify(right, psu.export(machine, tmp_path / "net.onnx"), fed(right), allow_silent=True)
        assert report.status == "NOT EQUIVALENT"
        assert any(name in difference for difference in report.differences), report.verdict
        found += 1
        if found == 2:
            return
    assert found


def _changed(machine, kind):
    """The machine with the first layer of a kind changed, and its name; None if there is none, or it cannot be."""
    for index, node in enumerate(machine.nodes):
        if type(node.layer) is not kind or node.name == machine.output:
            continue
        try:
            other = Node(node.name, CHANGES[kind](node.layer), node.inputs)
            changed = StateMachine((*machine.nodes[:index], other, *machine.nodes[index + 1 :]), machine.input_shape)
        except psu.InputError:
            continue
        if changed.content_hash != machine.content_hash:
            return changed, node.name
    return None


@pytest.mark.rows(5)
@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS[:200])
@pytest.mark.parametrize("target", sorted(set(EXPORTERS) - {"onnx"}))
def test_another_target_runs_it_or_names_what_it_cannot(target, seed, tmp_path):
    machine = random_machine(seed, layers=4)
    found = exported(machine, target, tmp_path, fed(machine))
    if isinstance(found, psu.UnsupportedModelError):
        assert all(problem.path in machine.shapes and problem.remedy for problem in found.problems)
        assert not list(tmp_path.iterdir())
        return
    runner = psu.load(found, **LOAD[target])
    assert psu.verify(machine, runner, fed(machine), allow_silent=True).status != "NOT EQUIVALENT"


@pytest.mark.rows(4)
@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS[:250])
def test_a_random_module_is_its_machine_and_its_file(seed, tmp_path):
    net, features = random_module(seed)
    x = torch.randn(5, 2, *features) * 1.5
    report = psu.verify(net, psu.export(net, tmp_path / "net.onnx", input_shape=features), x, allow_silent=True)
    assert report.status != "NOT EQUIVALENT", str(report)
    exact = net.double()
    with torch.no_grad():
        expected = exact(x.double())
    y = to_state_machine(exact, features).run(x.double())
    torch.testing.assert_close(y, expected, **IN_FLOAT64)


@pytest.mark.full
def test_bounds_of_attention_decide():
    """Behind softmax attention of large weights, too: a product of products is bounded by values, not by terms."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), attention(32), psu.PSU(threshold=0.3))
    machine, x = to_state_machine(enlivened(net).eval(), (9, 16)), torch.randn(4, 2, 9, 16).numpy()
    certificate = certify(machine, x, machine.trace(x))
    (margin,), (bound,) = certificate.exact.margin.values(), certificate.bounds.margin.values()
    assert certificate.ok
    assert float((margin.abs() <= bound).double().mean()) < 0.03


@pytest.mark.full
def test_every_kind_of_layer_is_drawn():
    drawn = {type(node.layer) for seed in range(3 * len(KINDS)) for node in random_machine(seed).nodes}
    assert drawn == {*KINDS, ops.Outputs}
    known = {kind for kind in ops.KINDS.values() if issubclass(kind, ops.Layer)}
    assert known == drawn
