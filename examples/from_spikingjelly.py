"""A network of SpikingJelly as a serial state machine in onnxruntime.

python examples/from_spikingjelly.py

Needs spikingjelly 2 beside psu-deploy[onnx]. Its neurons are SpikingJelly's own; psu_deploy never imports it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import psu_deploy as psu

STEPS, BATCH = 16, 4


def network() -> nn.Module:
    """Two spiking convolutions and a readout, in multi-step mode."""
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)),
        neuron.LIFNode(tau=2.0, v_threshold=0.5, v_reset=None),
        layer.AvgPool2d(2),
        layer.Conv2d(8, 8, 3, padding=1),
        neuron.ParametricLIFNode(v_threshold=0.05),
        layer.Flatten(),
        layer.Linear(8 * 8 * 8, 10),
    )
    functional.set_step_mode(net, "m")
    return net.eval()


def main() -> None:
    """Export, run serially, compare."""
    torch.manual_seed(0)
    net = network()
    events = (torch.rand(STEPS, BATCH, 2, 16, 16) < 0.3).float() * 4
    with tempfile.TemporaryDirectory() as folder:
        artifact = psu.export(net, Path(folder) / "net.onnx", input_shape=(2, 16, 16))
        report = psu.verify(net, artifact, events)
        runner = psu.load(artifact)
        serial = torch.from_numpy(runner.run(events.numpy()))
    functional.reset_net(net)
    with torch.no_grad():
        parallel = net(events)
    print(report)
    print(f"largest difference of the outputs: {float((serial - parallel).abs().max()):.1e}")
    raise SystemExit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
