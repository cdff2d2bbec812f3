"""Runs of several processes, forked from one that has imported everything: as a script, from a plan to what came of it.

    python ranks.py plan.json    # [{"name", "folder", "devices", "recipe", ...}]

What a plan may say besides: `kill`, [process, epoch, batch] at which a process sends itself `signal` (SIGKILL unless it
says so); `hang`, the same of one that waits for longer than anybody should; `poison`, the same of one that finds NaN
among its weights when it validates; `environments` of processes that somebody
else starts, one each, as torchrun and srun do, where PORT is a free port; `options` of `train`.

Forked processes stand in for those that `psu_deploy.training.crew` starts by running the command again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.cli.console import tell
from psu_deploy.errors import PsuDeployError
from psu_deploy.training import Recipe, Samples, Task, crew, register, train

T, FEATURES = 6, 5
SIZES = {"train": 22, "validation": 7, "test": 9}
"""Of the splits: batches of 8, 8 and 6; halves of 4 and 3."""


_PATIENCE = 60.0
"""Seconds for processes that nobody waits for."""


class Tiny(nn.Module):
    """No BatchNorm and no dropout, whose numbers depend on the process."""

    def __init__(self, neuron: Any, hidden: int = 8) -> None:
        super().__init__()
        self.layers = psu.SpikingSequential(nn.Linear(FEATURES, hidden), neuron(), nn.Linear(hidden, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y.mean(0)


def read(split: Any, _: Any) -> Samples:
    """Two classes of noise, around 0 and around 1."""
    n, numbers = SIZES[split], np.random.default_rng(len(split))
    labels = np.arange(n) % 2
    inputs = numbers.normal(3.0 * labels[:, None, None], 3.0, (n, T, FEATURES)).astype(np.float32)
    return Samples(inputs, labels)


register("tiny", Task(read, steps=T, input_shape=(FEATURES,), classes=2, network=Tiny))


def run(plan: dict[str, Any]) -> int:
    """One process of a run; exit code."""
    from psu_deploy.training.module import Classifier

    step = Classifier.training_step

    def until(self: Classifier, batch: Any, index: int) -> torch.Tensor:
        now = [self.global_rank, self.current_epoch, index]
        if now == plan.get("hang"):
            time.sleep(1.5 * _PATIENCE)
        if now == plan.get("kill"):
            os.kill(os.getpid(), signal.Signals[plan.get("signal", "SIGKILL")])
        return step(self, batch, index)

    validate = Classifier.validation_step

    def poisoned(self: Classifier, batch: Any, index: int) -> None:
        if [self.global_rank, self.current_epoch, index] == plan.get("poison"):
            next(self.model.parameters()).data[0] = torch.nan
        validate(self, batch, index)

    Classifier.training_step = until  # type: ignore[method-assign]
    Classifier.validation_step = poisoned  # type: ignore[method-assign]
    try:
        recipe = Recipe(task="tiny", **plan["recipe"])
        options = {"device": "cpu", "progress": False, "pictures": False, **plan.get("options", {})}
        result = train(recipe, plan["folder"], devices=plan["devices"], **options)
    except PsuDeployError as error:
        tell(f"error: {error.shell or error}")
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    Path(plan["folder"], f"result{rank}.json").write_text(json.dumps(vars(result)))
    return 0


class Fork:
    """In the place of subprocess.Popen, as far as a crew uses it."""

    plan: dict[str, Any]

    def __init__(self, _command: list[str], env: dict[str, str], start_new_session: bool) -> None:
        assert start_new_session
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.environ.update(env)
            _leave(self.plan)

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self) -> None:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _leave(plan: dict[str, Any]) -> None:
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is in the background ignores it
    try:
        code = run(plan)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def execute(plan: dict[str, Any], log: Path) -> dict[str, Any]:
    """A run; exit codes of the processes that we started, and what all of them said."""
    began, port = time.monotonic(), str(free_port())
    alive, held = os.pipe()
    processes = [
        _forked(plan, {name: value.replace("PORT", port) for name, value in environment.items()}, log)
        for environment in plan.get("environments", [{}])
    ]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    os.close(held)
    ended = bool(select.select([alive], [], [], _PATIENCE)[0])  # nobody holds the other end any more
    os.close(alive)
    return {"codes": codes, "said": log.read_text(), "seconds": time.monotonic() - began, "ended": ended}


def _forked(plan: dict[str, Any], environment: dict[str, str], log: Path) -> int:
    process = os.fork()
    if not process:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ.update(environment)
        Fork.plan = plan
        crew.subprocess.Popen = Fork  # type: ignore[misc,assignment]
        crew._GRACE = 2.0
        _leave(plan)
    return process


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main(path: Path) -> None:
    """Every run of a plan, one after the other; what came of them, to result.json beside it."""
    for module in ("datamodule", "module", "trainer", "team"):
        __import__(f"psu_deploy.training.{module}")
    torch.set_num_threads(1)
    plans = json.loads(path.read_text())
    results = {plan["name"]: execute(plan, path.with_name(f"{plan['name']}.log")) for plan in plans}
    path.with_name("results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
