"""Time of one serial step: our runner against a hand-written minimal ONNX graph driven by raw IOBinding.

Network 700-1024-1024-20, batch 1, one thread. Both run in this process, interleaved round by round; the ratio is the
median over rounds, so that the machine's drift cancels.

    python benchmarks/serial_step.py [--neuron psu|rpsu] [--rounds 31] [--steps 500]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import psu_deploy as psu

SIZES = (700, 1024, 1024, 20)
TAU, THRESHOLD, STEPS = 2.0, 0.5, 100


def network(neuron: str) -> nn.Module:
    """700-1024-1024-20 with neurons behind the two hidden layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        layers.append(nn.Linear(inputs, outputs))
        if outputs != SIZES[-1]:
            layers.append(psu.PSU(TAU, THRESHOLD) if neuron == "psu" else psu.RPSU(STEPS, TAU, THRESHOLD))
    return psu.SpikingSequential(*layers)


class MinimalGraph:
    """The fewest nodes a person would write for a PSU network, gain folded into the weights, two fixed bindings."""

    def __init__(self, model: nn.Module) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants = [numpy_helper.from_array(np.float32(v), n) for n, v in _CONSTANTS.items()]
        self._linears = [layer for layer in model if isinstance(layer, nn.Linear)]
        value, self._states = "x", []
        for index, layer in enumerate(self._linears):
            value = self._linear(value, layer, index)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(self._model(value), options, providers=["CPUExecutionProvider"])
        self._bind(value)

    def _linear(self, x: str, layer: nn.Linear, index: int) -> str:
        hidden = index < len(self._linears) - 1
        gain = 1 / TAU if hidden else 1.0
        for name, tensor in (("w", layer.weight), ("b", layer.bias)):
            self._constants.append(
                numpy_helper.from_array(tensor.detach().numpy() * np.float32(gain), f"{name}{index}")
            )
        self._op("Gemm", [x, f"w{index}", f"b{index}"], f"i{index}", transB=1)
        return self._psu(index) if hidden else f"i{index}"

    def _psu(self, k: int) -> str:
        self._states += [f"V{k}", f"R{k}"]
        self._op("Mul", [f"V{k}", "decay"], f"leak{k}")
        self._op("Add", [f"leak{k}", f"i{k}"], f"V{k}_next")
        self._op("Sub", [f"V{k}_next", f"R{k}"], f"m{k}")
        self._op("GreaterOrEqual", [f"m{k}", "threshold"], f"f{k}")
        self._op("Cast", [f"f{k}"], f"s{k}", to=TensorProto.FLOAT)
        self._op("Sigmoid", [f"V{k}_next"], f"e{k}")
        self._op("Mul", [f"e{k}", "threshold"], f"q{k}")
        self._op("Add", [f"R{k}", f"q{k}"], f"a{k}")
        self._op("Mul", [f"a{k}", "decay"], f"R{k}_next")
        return f"s{k}"

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def _model(self, output: str) -> bytes:
        def info(name: str, size: int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])

        inputs = [info("x", SIZES[0]), *(info(s, SIZES[1]) for s in self._states)]
        outputs = [info(output, SIZES[-1]), *(info(f"{s}_next", SIZES[1]) for s in self._states)]
        graph = helper.make_graph(self._nodes, "minimal", inputs, outputs, self._constants)
        opset = [helper.make_opsetid("", 18)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()

    def _bind(self, output: str) -> None:
        value = ort.OrtValue.ortvalue_from_numpy
        self._x, self._y = np.zeros((1, SIZES[0]), np.float32), np.zeros((1, SIZES[-1]), np.float32)
        ends = value(self._x), value(self._y)
        buffers = [{s: value(np.zeros((1, SIZES[1]), np.float32)) for s in self._states} for _ in range(2)]
        self._keep = (ends, buffers)
        self._bindings = []
        for read, write in (buffers, buffers[::-1]):
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("x", ends[0])
            binding.bind_ortvalue_output(output, ends[1])
            for state in self._states:
                binding.bind_ortvalue_input(state, read[state])
                binding.bind_ortvalue_output(f"{state}_next", write[state])
            self._bindings.append(binding)
        self._turn = 0

    def step(self, x: np.ndarray) -> np.ndarray:
        """One step, nothing checked, nothing copied but x."""
        np.copyto(self._x, x)
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        return self._y


_CONSTANTS = {"decay": 1 - 1 / TAU, "threshold": THRESHOLD}


def microseconds(step: Callable[[np.ndarray], object], x: np.ndarray) -> float:
    """Mean time of a step over a sequence."""
    start = time.perf_counter()
    for x_t in x:
        step(x_t)
    return (time.perf_counter() - start) / len(x) * 1e6


def main() -> None:
    """Print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()

    model = network("psu")
    x = (np.random.default_rng(0).random((arguments.steps, 1, SIZES[0])) < 0.05).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        artifact = psu.export(model, Path(folder) / "net.onnx", input_shape=(SIZES[0],))
        export_seconds = time.perf_counter() - start
        runner, minimal = psu.load(artifact, threads=1), MinimalGraph(model)
        runner.reset(1)
        difference = max(float(np.abs(runner.step(x_t) - minimal.step(x_t)).max()) for x_t in x[:50])
        times = []
        for _ in range(arguments.rounds):
            runner.reset(1)
            times.append((microseconds(runner.step, x), microseconds(minimal.step, x)))
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f"{'-'.join(map(str, SIZES))} PSU, batch 1, one thread, {arguments.rounds} rounds of {arguments.steps} steps")
    print(f"export incl. capture and self-check  {export_seconds:8.2f} s")
    print(f"OnnxRunner.step                      {ours:8.1f} us")
    print(f"hand-written graph, raw IOBinding    {theirs:8.1f} us")
    print(f"ratio (median of rounds)             {ratio:8.3f}")
    print(f"largest difference of outputs        {difference:8.1e}")


if __name__ == "__main__":
    main()
