"""One run of a .net file in Lava, in a process of its own: Lava forks, and hangs where it should raise."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError, EngineError, InputError, require
from psu_deploy.exporters.lava import process_group
from psu_deploy.files.atomic import as_npy
from psu_deploy.files.temporaries import temporary_folder

MAIN = Path(__file__).parent / "process" / "main.py"
NETWORK = "network.net"
"""Of the job folder: what the child opens, whatever becomes of the file it was read from."""

NAME = "psu-deploy-lava"
"""Of job folders."""

LAST_LINES = 20
"""Of what the child said, shown when it fails."""


@dataclass(frozen=True, eq=False)
class JobResult:
    """What came out of a run.

    Args:
        output: (samples*steps, features) of the last layer, int32; features in the order C, H, W.
        layers: number of a synapse -> the same of its layer, of those that were recorded.
        versions: of lava-nc, lava-dl, numpy and python.
        start_seconds: until the processes were there.
        run_seconds: of the time steps.
    """

    output: NDArray[Any]
    layers: dict[int, NDArray[Any]]
    versions: dict[str, str]
    start_seconds: float
    run_seconds: float


def run_job(
    python: Path,
    network: bytes,
    x: NDArray[Any],
    *,
    steps: int,
    samples: int,
    record: Sequence[int] = (),
    timeout: float,
) -> JobResult:
    """Run samples, one after the other, through a network.

    Args:
        python: interpreter with Lava, see `environment.find`.
        network: what is in the .net file.
        x: (samples*steps, *features): whole numbers.
        steps: of a sample.
        samples: how many.
        record: numbers of the layers, from 0, whose output is wanted too; each costs time in every step.
        timeout: seconds for everything.

    Raises:
        InputError: if x does not have the rows or the numbers that were announced.
        ArtifactError: if the system's temporary folder does not take the job.
        MissingExtraError: if psutil is not installed.
        EngineError: if Lava crashed, hung, or gave something else.
    """
    job = {"network": NETWORK, "steps": steps, "samples": samples}
    rows = _rows(x, steps * samples)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(Path(tempfile.gettempdir()), NAME))
            _write(folder, network, rows, job | {"record": sorted(set(record))})
        except OSError as error:
            raise ArtifactError(
                f"cannot write the job for Lava into {tempfile.gettempdir()}: {error.strerror or error}; free some "
                "space there, or let TMPDIR name another place"
            ) from error
        _run(python, folder, timeout)
        return _result(folder, len(rows), sorted(set(record)))


def _write(folder: Path, network: bytes, rows: NDArray[Any], job: dict[str, Any]) -> None:
    """What the child is given."""
    (folder / NETWORK).write_bytes(network)
    (folder / "x.npy").write_bytes(as_npy(rows))
    (folder / "job.json").write_text(json.dumps(job))


def _rows(x: NDArray[Any], rows: int) -> NDArray[Any]:
    """x as the child takes it."""
    if x.ndim < 2 or len(x) != rows or not rows:
        raise InputError(f"expected x of shape (samples*steps = {rows}, *features), at least one row; got {x.shape}")
    limit = np.iinfo(np.int32)
    if x.dtype.kind not in "biu" or x.min() < limit.min or x.max() > limit.max:
        raise InputError(f"fixed point takes whole numbers of 32 bits, got {x.dtype} from {x.min()} to {x.max()}")
    return np.ascontiguousarray(x, np.int32)


def _run(python: Path, folder: Path, timeout: float) -> None:
    """Start the child and wait; whatever happens, none of its processes is left."""
    require("psutil", extra="lava")  # before there is a child that needs it for its end
    # -E and -s: what PYTHONPATH or a user's site-packages hold is for another Python.
    command = [str(python), "-E", "-s", str(MAIN), str(folder)]
    # A process for every layer: threads of a BLAS would only get into each other's way.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "said.txt").open("wb") as said:
        try:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | threads,
                stdin=subprocess.PIPE,  # nothing is ever written: it closes when we end, and then so does the child
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"Lava did not start: {python} cannot be run: {error}") from error
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                _failure(f"was not done after {timeout:g} seconds and was stopped; give it more with timeout", folder)
            ) from error
        finally:
            process_group.end(child)
            assert child.stdin is not None
            child.stdin.close()
    if code or not (folder / "done.json").is_file():
        raise EngineError(_failure(f"stopped with exit status {code}" if code else "ended without a result", folder))


def _failure(what: str, folder: Path) -> str:
    lines = (folder / "said.txt").read_text(errors="replace").strip().splitlines()
    tail = "".join(f"\n  {line}" for line in lines[-LAST_LINES:])
    return f"Lava {what}; " + (f"the last it said:{tail}" if tail else "it said nothing")


def _result(folder: Path, rows: int, record: Sequence[int]) -> JobResult:
    try:
        done = json.loads((folder / "done.json").read_text())
        output = _read(folder / "output.npy", rows)
        layers = {k: _read(folder / f"layer_{k}.npy", rows) for k in record}
        versions = {str(name): str(version) for name, version in done["versions"].items()}
        return JobResult(output, layers, versions, float(done["start_seconds"]), float(done["run_seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"Lava gave no usable result: {type(error).__name__}: {error}") from error


def _read(path: Path, rows: int) -> NDArray[Any]:
    """What the child wrote, if it is what was asked for."""
    if not path.is_file():
        raise EngineError(f"Lava gave no usable result: {path.name} is missing; is there a layer of this number?")
    array: NDArray[Any] = np.load(path)
    if array.ndim != 2 or len(array) != rows or array.dtype != np.int32:
        raise EngineError(
            f"Lava gave no usable result: {path.name} has shape {array.shape} and dtype {array.dtype}, "
            f"expected {rows} rows of int32"
        )
    return array
