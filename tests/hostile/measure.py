"""A script: reads files that want our memory, each in a process of its own, and says what became of it.

python measure.py kind path [kind path ...]   ->   one line of JSON each
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import h5py  # noqa: F401  here, so that no reader's time is that of an import
import numpy as np
import onnxruntime  # noqa: F401

from psu_deploy import StateMachine, api
from psu_deploy.capture import to_state_machine
from psu_deploy.cli.sources import read_array
from psu_deploy.errors import PsuDeployError
from psu_deploy.exporters.lava.runner import LavaRunner  # noqa: F401
from psu_deploy.exporters.onnx.runner import OnnxRunner  # noqa: F401
from psu_deploy.importers import nir, official
from psu_deploy.importers.networks import input_shape
from psu_deploy.training import weights
from psu_deploy.training.recipe import Recipe

ROOM = 3 << 30
"""Bytes of address space beyond what is there when a file is opened."""


def _runs(runner):
    runner.reset(1)
    runner.step(np.zeros((1, *runner.input_shape), np.float32))


def _machine(path):
    machine = StateMachine.load(path)
    machine.run(np.zeros((1, 1, *machine.input_shape), np.float32))


def _imported(path):
    model = official.load(path, "rpsu")
    to_state_machine(model, input_shape(model, 32))


READERS = {
    "psm": _machine,
    "onnx": lambda path: _runs(api.load(path)),
    "nir": nir.load,
    "net": lambda path: _runs(api.load(path, simulator="integer")),
    "pth": _imported,
    "ckpt": weights.load_checkpoint,
    "npy": read_array,
    "json": Recipe.load,
}


def _status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


def measured(kind, path):
    """Read a file in this process: what it said, how much memory and how many seconds it took."""
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ROOM, resource.RLIM_INFINITY))
    before, began = _status("VmRSS"), time.monotonic()
    try:
        READERS[kind](Path(path))
        said = "read"
    except PsuDeployError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001  what should not happen is what a test wants to see
        said = f"not ours: {type(error).__name__}: {error}"
    peak = max(_status("VmHWM") - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
    return {"path": path, "said": said, "memory": peak, "seconds": time.monotonic() - began}


def main(arguments):
    """One process per file, made by fork, so that torch is imported once."""
    for kind, path in zip(arguments[::2], arguments[1::2], strict=True):
        sys.stdout.flush()
        if not os.fork():
            sys.stdout.write(json.dumps(measured(kind, path)) + "\n")
            sys.stdout.flush()
            os._exit(0)
        _, status = os.wait()
        if status:
            sys.stdout.write(json.dumps({"path": path, "said": f"killed: {status}", "memory": 0, "seconds": 0}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
