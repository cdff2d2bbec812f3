"""Time of one serial step: our runners, with events and without, step by step and in one sequence, against a
hand-written minimal ONNX graph driven by raw IOBinding.

Network 700-1024-1024-20, batch 1, one thread; its weights are scaled so that hidden neurons fire as often as asked for.
All run in this process, interleaved round by round; ratios are medians over rounds: the machine's drift cancels.

    python benchmarks/serial_step.py [--input 0.05] [--firing 0.1] [--rounds 31] [--steps 500]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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
TAU, THRESHOLD = 2.0, 0.5
FILES: dict[str, dict[str, bool | str]] = {
    "all weights": {"events": False},
    "events": {"events": "auto"},
    "all weights, one sequence": {"events": False, "sequence": True},
    "events, one sequence": {"events": "auto", "sequence": True},
}


def network(x: np.ndarray, firing: float) -> nn.Module:
    """700-1024-1024-20 with PSU neurons behind the two hidden layers, which fire at a rate on x."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    value = torch.from_numpy(x)
    for inputs, outputs in pairwise(SIZES):
        layers.append(nn.Linear(inputs, outputs))
        if outputs != SIZES[-1]:
            layers.append(psu.PSU(TAU, THRESHOLD))
            value = _calibrate(layers[-2], layers[-1], value, firing)
    return psu.SpikingSequential(*layers)


@torch.no_grad()
def _calibrate(linear: nn.Module, neuron: nn.Module, x: torch.Tensor, firing: float) -> torch.Tensor:
    """Scale the weights until the neurons fire at a rate; returns their spikes."""
    weight = linear.weight.clone()
    linear.bias.zero_()
    low, high = 0.01, 100.0
    for _ in range(25):
        scale = (low * high) ** 0.5
        linear.weight.copy_(weight * scale)
        low, high = (scale, high) if neuron(linear(x)).mean() < firing else (low, scale)
    spikes: torch.Tensor = neuron(linear(x))
    return spikes


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


def microseconds(step: Callable[[np.ndarray], object], x: Sequence[np.ndarray]) -> float:
    """Mean time of a call, of this process: others that want the processor too do not count."""
    start = time.process_time()
    for x_t in x:
        step(x_t)
    return (time.process_time() - start) / len(x) * 1e6


def of_one_step(runner: psu.Runner, x: np.ndarray) -> float:
    """Microseconds: a call for each step, or one for all."""
    runner.reset(1)
    if not runner.facts.get("sequence"):
        return microseconds(runner.step, x)
    return microseconds(runner.run, [x]) / len(x)


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=float, default=0.05)
    parser.add_argument("--firing", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()

    torch.set_num_threads(1)
    x = (np.random.default_rng(0).random((given.steps, 1, SIZES[0])) < given.input).astype(np.float32)
    model = network(x[:100], given.firing)
    minimal = MinimalGraph(model)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        artifacts = [
            psu.export(model, Path(folder) / f"{i}.onnx", input_shape=(SIZES[0],), **options)
            for i, options in enumerate(FILES.values())
        ]
        export_seconds = (time.perf_counter() - start) / len(artifacts)
        runners = [psu.load(artifact, threads=1) for artifact in artifacts]
        times = []
        for _ in range(given.rounds):
            times.append([microseconds(minimal.step, x), *(of_one_step(runner, x) for runner in runners)])
    print(f"{'-'.join(map(str, SIZES))} PSU, batch 1, one thread, {given.rounds} rounds of {given.steps} steps,")
    print(f"{given.input:.0%} of the input and {given.firing:.0%} of the hidden neurons fire")
    print(f"export incl. capture and self-check   {export_seconds:8.2f} s")
    minimum, *ours = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"hand-written graph, raw IOBinding     {minimum:8.1f} us")
    for index, (name, median) in enumerate(zip(FILES, ours, strict=True), 1):
        ratio = statistics.median(row[0] / row[index] for row in times)
        print(f"{name:36s}  {median:8.1f} us  {ratio:6.2f} times as fast")
    gain = statistics.median(row[1] / row[2] for row in times)
    best = _best(times, 1) / _best(times, 2)
    print(f"all weights / events, median          {gain:8.2f}; of the best rounds {best:.2f}")


def _best(times: list[list[float]], column: int) -> float:
    return min(row[column] for row in times)


if __name__ == "__main__":
    main()
