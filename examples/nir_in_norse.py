"""Somebody sent me a .nir file: norse runs it, and gets the spikes the sender saw. No psu_deploy here.

    python examples/nir_in_norse.py model.nir [x.npy]

The file was written with --simulator norse or portable. x.npy is a sequence (T, B, ...), float32; without it, random
spikes are used.
"""

import json
import sys

import nir
import norse.torch
import numpy as np
import torch


def main() -> None:
    """Read, load, step."""
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/nir_in_norse.py model.nir [x.npy]")
    graph = nir.read(sys.argv[1])
    network = norse.torch.from_nir(graph, dt=1e-4)  # norse's own default is another time step

    facts = json.loads(graph.metadata["psu_deploy"])
    neurons = {layer: neuron["node"] for layer, neuron in facts["neurons"].items()}
    print(f"input {facts['input_shape']}, output {facts['output_shape']}, neuron layers {list(neurons)}")
    counts = dict.fromkeys(neurons, 0)
    for layer, node in neurons.items():

        def count(module: object, inputs: object, output: tuple, layer: str = layer) -> None:
            counts[layer] += int(output[0].sum())

        network.get_submodule(node).register_forward_hook(count)

    x = sequence(facts["input_shape"])
    state, outputs = None, []
    with torch.no_grad():
        for x_t in x:
            y_t, state = network(x_t, state)  # without the state every step would be the first
            outputs.append(y_t.flatten(1))
    print(f"spikes in {len(x)} steps: {counts}")
    y = torch.stack(outputs)  # (T, B, features)
    answer = y.mean(0) if facts["readout"] == "mean" else y.sum(0) if facts["readout"] == "sum" else y[-1]
    print(f"answer:\n{np.round(answer.numpy(), 4)}")


def sequence(shape: list[int]) -> torch.Tensor:
    """(T, B, ...): the file named on the command line, or random spikes."""
    if len(sys.argv) > 2:
        return torch.from_numpy(np.load(sys.argv[2]))
    return (torch.rand(32, 1, *shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


if __name__ == "__main__":
    main()
