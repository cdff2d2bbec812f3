"""What the tests of SpikingJelly's networks share: networks as training leaves them, and their own spikes."""

from __future__ import annotations

import importlib
import os
from copy import deepcopy

import pytest
import torch
from torch import nn

import psu_deploy as psu


def spikingjelly(room):
    """A module of SpikingJelly; without SpikingJelly its tests are skipped, unless it is said to be there."""
    name = f"spikingjelly.activation_based.{room}"
    required = "spikingjelly" in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(",")
    return importlib.import_module(name) if required else pytest.importorskip(name)


functional, layer, neuron, surrogate = map(spikingjelly, ("functional", "layer", "neuron", "surrogate"))


def trained(net):
    """A net as training leaves it: statistics and numbers of BatchNorm are not those it was born with."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.3, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.3, 0.3)
    return net


def multi_step(*layers):
    """The net of SpikingJelly's tutorials."""
    net = nn.Sequential(*layers)
    functional.set_step_mode(net, "m")
    return trained(net)


def currents(T, features, B=3, scale=2.0, dtype=torch.float32):
    return scale * (torch.randn(T, B, *features, dtype=dtype) + 0.3)


def spikes_of(net, x):
    """Output of a net that was reset, and the spikes of its neurons by path, seen by our own hooks."""
    seen = {}
    handles = [
        node.register_forward_hook(lambda _, i, spikes, path=path: seen.setdefault(path, []).append(spikes))
        for path, node in net.named_modules()
        if any(kind.__module__.startswith(neuron.__name__) for kind in type(node).__mro__)
    ]
    functional.reset_net(net)
    with torch.no_grad():
        output = net(x)
    functional.reset_net(net)
    for handle in handles:
        handle.remove()
    return output, {path: calls[0] if len(calls) == 1 else torch.stack(calls) for path, calls in seen.items()}


def check_machine(net, features, T, seed=0, scale=2.0, picture=False):
    """In float64 the machine spikes exactly as SpikingJelly does. Returns the spikes by path."""
    net = deepcopy(net).double().eval()
    machine = psu.to_state_machine(net, input_shape=features)
    x = shown(currents(T, features, scale=scale, dtype=torch.float64), picture)
    output, expected = spikes_of(net, x[0] if picture else x)
    output = output[0] if isinstance(output, tuple) else output
    trace = machine.trace(x)
    serial = trace.output if trace.output.ndim == output.ndim else trace.output[-1]
    torch.testing.assert_close(serial, output, rtol=1e-11, atol=1e-11, check_dtype=False)
    assert sorted(trace.spikes) == sorted(path or type(net).__name__.lower() for path in expected)
    for path, spikes in expected.items():
        assert torch.equal(trace.spikes[path or type(net).__name__.lower()], spikes.sign()), path
    return {path: spikes.sign() for path, spikes in expected.items()}


def check_everywhere(net, features, T, folder, scale=2.0, picture=False, flips=0, proven=True):
    """In float32, the module, its machine and the artifact in onnxruntime: not one decision differs.

    Of a million decisions some fall on the very threshold, where float32 rounds to either side: `flips` allows so many
    of those that `verify` has proved to be such. Where it is not `proven`, the bounds leave more than that open.
    """
    artifact = psu.export(net, folder / "net.onnx", input_shape=features)
    report = psu.verify(net, artifact, shown(currents(T, features, scale=scale), picture), allow_silent=True)
    assert report.status == ("EQUIVALENT" if proven else "NOT PROVEN"), report.verdict
    assert report.spikes_compared > 0
    assert sum(len(comparison.disputed) for comparison in report.comparisons) <= flips  # not what follows from them


def shown(x, picture):
    """The same at every step, for a net that is given one picture and shows it by itself."""
    return x[:1].expand_as(x) if picture else x


def fires(spikes):
    return all(0 < s.mean() < 1 for s in spikes.values())
