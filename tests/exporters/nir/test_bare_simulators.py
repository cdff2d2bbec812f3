"""One portable file in three simulators, as a user without this package runs it. Hash seeds move nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.exporters.nir.importing.nir_graphs import optional
from tests.exporters.nir.machines import MACHINES, inputs

SCRIPT = """
import contextlib, io, json, sys, warnings
warnings.simplefilter("ignore")
import nir, numpy as np, torch
from norse.torch import from_nir
from snntorch.import_nir import import_from_nir as snntorch_from_nir
from spikingjelly.activation_based.nir_exchange import import_from_nir as spikingjelly_from_nir

torch.set_num_threads(1)
readers = {
    "norse": lambda graph: from_nir(graph, dt=1e-4, ignore_warnings=True),
    "snntorch": snntorch_from_nir,
    "spikingjelly": lambda graph: spikingjelly_from_nir(graph, dt=1e-4, step_mode="s"),
}
found = {}
for path, data in zip(sys.argv[1::2], sys.argv[2::2]):
    x = torch.from_numpy(np.load(data))
    for name, reader in readers.items():
        graph = nir.read(path)
        neurons = json.loads(graph.metadata["psu_deploy"])["neurons"]
        with contextlib.redirect_stdout(io.StringIO()):
            net = reader(graph)
        seen = {layer: [] for layer in neurons}
        for layer, neuron in neurons.items():
            def keep(module, inputs, output, layer=layer):
                seen[layer].append(output[0] if isinstance(output, tuple) else output)
            net.get_submodule(neuron["node"]).register_forward_hook(keep)
        state = None
        with torch.no_grad():
            for x_t in x:
                y, state = net(x_t, state)
        spikes = {layer: torch.stack(rows).flatten().int().tolist() for layer, rows in seen.items()}
        found[f"{path} in {name}"] = spikes
assert not any(name.partition(".")[0] == "psu_deploy" for name in sys.modules)
print(json.dumps(found))
"""
NAMES = ("captured, dense", "window with reset", "captured, image")


@pytest.mark.nightly
def test_three_simulators_two_hash_seeds(file_of, tmp_path):
    for simulator in ("norse", "snntorch", "spikingjelly"):
        optional(simulator)
    files, arguments = {}, []
    for index, name in enumerate(NAMES):
        np.save(tmp_path / f"{index}.npy", inputs(MACHINES[name]))
        files[str(file_of(name, "portable"))] = name
        arguments += [str(file_of(name, "portable")), str(tmp_path / f"{index}.npy")]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    runs = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}, **streams)
        for seed in (0, 4711)
    ]
    for process in runs:
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
        found = json.loads(stdout.splitlines()[-1])
        assert len(found) == 3 * len(NAMES)
        for where, spikes in found.items():
            name = files[where.partition(" in ")[0]]
            expected = MACHINES[name].trace(inputs(MACHINES[name])).spikes
            assert spikes.keys() == expected.keys()
            for layer, rows in expected.items():
                assert spikes[layer] == rows.astype(int).ravel().tolist(), where
