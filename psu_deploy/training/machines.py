"""What a run runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from psu_deploy.errors import InputError
from psu_deploy.training.checks import check_choice, check_whole

Device = Literal["auto", "cpu", "cuda"]
Strategy = Literal["auto", "ddp", "fsdp"]

STRATEGIES = ("auto", "ddp", "fsdp")
_MOST = 65_536


@dataclass(frozen=True)
class Machines:
    """What a run runs on, in Lightning's words.

    Args:
        device: "cpu" or "cuda"; "auto" is "cuda" where there is a GPU.
        devices: processes on each machine; on "cuda", GPUs.
        num_nodes: machines.
        strategy: how the processes work together: "ddp", "fsdp", or "auto", which is "ddp" where there are several.

    Raises:
        InputError: if the device is not there, or a number makes no sense.
    """

    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", _resolve(self.device))
        check_whole("devices", self.devices, 1, _MOST)
        check_whole("num_nodes", self.num_nodes, 1, _MOST)
        check_choice("strategy", self.strategy, STRATEGIES)
        if self.device == "cuda" and self.devices > torch.cuda.device_count():
            raise InputError(
                f"devices is {self.devices} but torch sees {torch.cuda.device_count()} GPU(s) here; every process must "
                "see all GPUs of its machine (with SLURM: --gpus-per-node, not --gpus-per-task)"
            )
        if self.strategy == "fsdp" and self.device != "cuda":
            raise InputError('strategy is "fsdp", which needs device "cuda"; on a CPU use "ddp"')

    @property
    def processes(self) -> int:
        """Of the whole run."""
        return self.devices * self.num_nodes

    @property
    def parallel(self) -> bool:
        """Whether the processes join; one that is alone may be told to, too."""
        return self.processes > 1 or self.strategy != "auto"


def _resolve(device: str) -> Literal["cpu", "cuda"]:
    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device == "cpu":
        return "cpu"
    if device != "cuda":
        raise InputError(f"device must be auto, cpu or cuda, got {device!r}")
    if not there:
        raise InputError('device is "cuda" but torch sees no GPU here; use "cpu" or "auto"')
    return "cuda"
