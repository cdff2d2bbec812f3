"""Runs one job: python main.py JOB_FOLDER. It holds job.json and x.npy; then output.npy, layer_*.npy, done.json."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from parent_watchdog import end_with_parent


def main(folder: Path) -> None:
    """Run the job, and say at the very end that it is done."""
    begun = time.perf_counter()
    end_with_parent(folder)
    job = json.loads((folder / "job.json").read_text())
    steps = _checked_steps(job, folder)
    source, latency = _build(job, folder, steps)
    try:
        source.create_runtime(run_cfg=_configuration())
        ready = time.perf_counter()
        _run(source, steps + latency)
        ended = time.perf_counter()
    finally:
        source.stop()
    if latency - 1 in job["record"]:
        shutil.copyfile(folder / "output.npy", folder / f"layer_{latency - 1}.npy")
    done = {"versions": _versions(), "start_seconds": ready - begun, "run_seconds": ended - ready}
    (folder / "done.json").write_text(json.dumps(done))


def _checked_steps(job: dict[str, Any], folder: Path) -> int:
    """How many steps there are in all."""
    rows = np.load(folder / "x.npy", mmap_mode="r")
    steps = int(job["steps"] * job["samples"])
    if rows.dtype != "int32" or len(rows) != steps or steps < 1:
        raise ValueError(f"x.npy has {len(rows)} rows of {rows.dtype}, expected {steps} of int32")
    return steps


def _build(job: dict[str, Any], folder: Path, steps: int) -> tuple[Any, int]:
    """Source -> network -> sinks; the source and the number of synapses."""
    from netx_network import Network
    from sink import Sink
    from source import Source

    network = Network(job["network"], job["steps"])
    latency = len(network.layers)
    source = Source(path=str(folder / "x.npy"), shape=network.inp.shape)
    source.s_out.connect(network.inp)
    wanted = {folder / f"layer_{k}.npy": k for k in job["record"] if k != latency - 1}
    for path, k in (wanted | {folder / "output.npy": latency - 1}).items():
        out = network.out if k == latency - 1 else network.layers[k].out
        sink = Sink(path=str(path), shape=out.shape, steps=steps, offset=k + 1)
        out.connect(sink.a_in)
    return source, latency


def _configuration() -> Any:
    """Models by tag; netx's own blocks by name."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from shim import Conv, Dense, PyConvModel, PyDenseModel

    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map={Dense: PyDenseModel, Conv: PyConvModel})


def _run(source: Any, steps: int) -> None:
    from lava.magma.core.run_conditions import RunSteps

    source.run(condition=RunSteps(num_steps=steps))


def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in ("lava-nc", "lava-dl", "numpy")}
    return versions | {"python": platform.python_version()}


if __name__ == "__main__":  # Lava's compiler executes every file of this folder
    main(Path(sys.argv[1]))
