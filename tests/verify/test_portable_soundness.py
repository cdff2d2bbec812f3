"""Portable certificates are attacked: no runtime turns a certified decision, and no margin leaves its bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.fuzz.grow import random_machine
from psu_deploy.machine import Node, StateMachine, ops
from tests.exporters.onnx.test_other_engines import LEVELS, optimised
from tests.helpers import noise
from tests.verify.engines import TO_NEAREST, Engine
from tests.zoo import MACHINES, chain, inputs, neuron, steps_of
from tests.zoo import o as operators

ENGINES = [*TO_NEAREST, Engine(order="shuffled", lanes=8, fused=True, bias_last=False), Engine(lanes=0, fused=True)]


def run(machine, engine, x):
    """Margins and spikes of every neuron layer in an engine that follows its own spikes, (T, B, *features)."""
    values, margins = {"x": np.float64(x)}, {}
    for node in machine.nodes:
        given = [values[name] for name in node.inputs]
        if isinstance(node.layer, ops.Neuron):
            drawn = noise(node.layer.seed, given[0].shape) if isinstance(node.layer, ops.BernoulliNeuron) else None
            margins[node.name], fired = engine.neuron(node.layer, given[0], drawn)
            values[node.name] = np.float64(fired)
        elif len(given) > 1:
            values[node.name] = engine.elementwise(node.layer, given)
        else:
            values[node.name] = engine.layer(node.layer, given[0])
    return margins, {name: values[name] for name in margins}


def beyond(certificate, margins):
    """How far margins are off, as a share of their bounds, at most; of a certificate without cases."""
    shares = [0.0]
    for layer in certificate.layers:
        off, known = np.abs(margins[layer.name] - layer.margin), np.isfinite(layer.bound)
        assert not off[layer.bound == 0].any()
        shares.append(float((off[known] / np.maximum(layer.bound[known], 1e-300)).max(initial=0.0)))
    return max(shares)


def fires(machine, layer):
    """What exact arithmetic decides."""
    kind = next(node.layer for node in machine.nodes if node.name == layer.name)
    return layer.margin >= 0 if getattr(kind, "fire_on", ">") == ">=" else layer.margin > 0


def flips(machine, certificate, spikes):
    """Certified decisions that came out otherwise, and others."""
    found = [0, 0]
    for layer in certificate.layers:
        other = fires(machine, layer) != (np.asarray(spikes[layer.name]) != 0)
        found[0] += int((other & layer.certified).sum())
        found[1] += int((other & ~layer.certified).sum())
    return tuple(found)


def on_edge(machine, x, off=0.0, seed=0):
    """The same machine, each threshold moved onto, or almost onto, what one decision compares."""
    random = np.random.default_rng(seed)
    for name in machine.spiking:
        layer = next(node.layer for node in machine.nodes if node.name == name)
        if isinstance(layer, ops.BernoulliNeuron):
            continue
        margin = machine.trace(np.float64(x)).margin[name]
        near = margin[np.abs(margin) < 0.5]
        moved = replace(layer, threshold=layer.threshold + float(random.choice(near if near.size else [0.0])) + off)
        nodes = [Node(node.name, moved if node.name == name else node.layer, node.inputs) for node in machine.nodes]
        machine = StateMachine(tuple(nodes), machine.input_shape, machine.output)
    return machine


def fed(machine, seed=0):
    x = inputs(machine, steps_of(machine), 3, seed)
    return np.repeat(x[:1], len(x), axis=0) if machine.static_input else x


def attack(machine, x):
    """Every engine on a machine with knife edges in every layer; how many decisions fell otherwise."""
    machine = on_edge(machine, x)
    plain, taken_apart = psu.certify(machine, x, cases=1), psu.certify(machine, x)
    others = 0
    for engine in ENGINES:
        margins, spikes = run(machine, engine, x)
        assert beyond(plain, margins) <= 1
        for certificate in (plain, taken_apart):
            certified, open_ = flips(machine, certificate, spikes)
            assert certified == 0
            others += open_
    return others


DECIDING = [name for name, machine in MACHINES.items() if machine.spiking and not machine.latency]


@pytest.mark.parametrize("name", DECIDING)
def test_no_engine_leaves_a_bound_or_turns_a_certified_decision(name):
    attack(MACHINES[name], fed(MACHINES[name]))


@pytest.mark.full
@pytest.mark.rows(6)
@pytest.mark.parametrize("seed", range(600))
def test_nor_in_random_machines(seed):
    machine = random_machine(seed)
    if machine.spiking and not machine.latency:
        attack(machine, fed(machine, seed))


def test_the_edges_are_real():
    """The attack would notice: engines do turn decisions that are not certified."""
    assert sum(attack(MACHINES[name], fed(MACHINES[name])) for name in ("shared neuron", "rpsu neuron")) > 0


@pytest.mark.parametrize("terms", [40, 400])
@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_bound_is_nearly_reached(terms, weight):
    """One number, and many that are lost when they are added to it one by one."""
    machine = chain((terms + 1,), ops.Linear(np.full((1, terms + 1), weight)), neuron(operators.Identity()))
    x = np.full((1, 1, terms + 1), 0.99 * 2.0**-24, np.float32)
    x[..., 0] = 1.0
    margins, _ = run(machine, Engine(), x)
    assert 0.8 < beyond(psu.certify(machine, x), margins) <= 1


def test_a_bound_grows_with_the_memory():
    """One number in a leak that keeps it, and small ones that are lost step by step."""
    machine = chain((1,), neuron(operators.Leak(1.0, 1.0)))
    x = np.full((300, 1, 1), 0.99 * 2.0**-24, np.float32)
    x[0] = 1.0
    margins, _ = run(machine, Engine(), x)
    assert 0.1 < beyond(psu.certify(machine, x), margins) <= 1


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_a_runtime_may_fold(name):
    """Every term is lost that is added to a shift one by one, as to a bias; behind the sum the shift meets it once."""
    terms, scale, shift = 400, np.full(3, 0.5), np.ones(3)
    features = (terms,) if name == "linear" else (terms, 1)
    weight = np.full((3, *features), 2.0)
    if name == "linear":
        layer, folded = ops.Linear(weight), ops.Linear(weight / 2, shift)
    else:
        layer, folded = (ops.Conv1d(w, b, (1,), ((0, 0),), (1,), 1) for w, b in ((weight, None), (weight / 2, shift)))
    decides = neuron(operators.Identity())
    x = np.full((1, 1, *features), 0.99 * 2.0**-24, np.float32)
    certificate = psu.certify(chain(features, layer, ops.ChannelAffine(scale, shift), decides, names="abn"), x)
    margins, _ = run(chain(features, folded, decides, names="an"), Engine(bias_last=False), x)
    assert 0.8 < beyond(certificate, margins) <= 1


def observed(machine):
    """The same machine; its outputs are the spikes of all layers."""
    flat = [Node(f"flat {name}", ops.Flatten(), (name,)) for name in machine.spiking]
    end = ops.Concat(0) if len(flat) > 1 else ops.Flatten()
    return StateMachine((*machine.nodes, *flat, Node("all", end, tuple(n.name for n in flat))), machine.input_shape)


def apart(machine, y):
    """Spikes of every layer, from those of all, (T, B, n)."""
    found, start = {}, 0
    for name in machine.spiking:
        shape = machine.shapes[name]
        size = int(np.prod(shape))
        found[name] = np.asarray(y)[..., start : start + size].reshape(*y.shape[:-1], *shape)
        start += size
    return found


def in_onnxruntime(path, machine, level):
    session, state, rows = optimised(str(path), level), None, []

    def steps(x):
        nonlocal state
        state = machine.initial_state(x.shape[1])
        read = [given.name for given in session.get_inputs()]
        for x_t in x:
            found = session.run(None, {name: v for name, v in {"x": x_t, **state}.items() if name in read})
            rows.append(found[0])
            state = dict(zip(state, found[1:], strict=True))
        done = np.stack(rows)
        rows.clear()
        return done

    return steps


def in_torch(machine, threads):
    def steps(x):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return machine.run(x)
        finally:
            torch.set_num_threads(before)

    return steps


def runtimes(machine, folder):
    """Name -> what runs a sequence and gives the spikes of all layers."""
    path = psu.export(machine, folder / "net.onnx").path
    source = psu.export(machine, folder / "net.c", target="c").path
    found = {level: in_onnxruntime(path, machine, level) for level in LEVELS}
    found |= {f"torch, {threads} threads": in_torch(machine, threads) for threads in (1, 2)}
    for flags in ("-O0", "-O3 -march=native"):
        runner = psu.load(source, flags=flags)
        found[f"C {flags}"] = runner.run
    return found


def digits_net(hidden=128):
    torch.manual_seed(0)
    net = psu.models.DigitsNet("rpsu", hidden=hidden)
    net.train()
    with torch.no_grad():
        net(torch.rand(8, 400, 8))
    return psu.to_state_machine(net.eval(), (8,))


def in_runtimes(machine, folder, samples, batch=200):
    """Decisions that were compared, those that are not certified, and those that a runtime made otherwise."""
    seen, random = observed(machine), np.random.default_rng(0)
    engines, compared, edges, turned = runtimes(seen, folder), 0, 0, 0
    for _ in range(samples // batch):
        x = random.random((8, batch, 8), dtype=np.float32)
        certificate = psu.certify(machine, x)
        edges += certificate.decisions - certificate.certified_decisions
        for name, engine in engines.items():
            certified, others = flips(machine, certificate, apart(machine, engine(x)))
            assert certified == 0, name
            compared, turned = compared + certificate.decisions, turned + others
    return compared, edges, turned


@pytest.mark.full
def test_real_runtimes(tmp_path):
    assert in_runtimes(on_edge(digits_net(32), np.float32(np.random.default_rng(1).random((8, 9, 8)))), tmp_path, 400)[
        0
    ]


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_hundred_million_decisions_in_real_runtimes(tmp_path):
    compared, edges, _ = in_runtimes(digits_net(), tmp_path, 6400)
    assert compared > 100_000_000
    assert edges / compared < 1e-4
