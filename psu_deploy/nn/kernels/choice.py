"""Which neurons run in one fused pass, and which step by step in torch: where, when, and how to see and force it."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError


def _forced(environment: Mapping[str, str]) -> str:
    value = environment.get("PSU_DEPLOY_KERNELS", "")
    if value not in ("", "torch", "numba"):
        raise InputError(f'PSU_DEPLOY_KERNELS must be "torch", "numba" or not set, got {value!r}')
    return value


FORCED = _forced(os.environ)
"""`"torch"`: nothing is fused; `"numba"`: on the CPU everything is that can be, however small; empty: what pays."""

# Written by benchmarks/choose_kernels.py on x86_64, AVX2; torch 2.13.0+cpu, numba 0.68.1
SMALLEST = {"cpu": {"spiking_unit": {1: 4096}, "lif": {1: 4096}, "exponentials": {1: 32768, 2: 8192, 4: 4096}}}
"""Device -> kind -> steps -> how many numbers a sequence of so many steps or more has to have."""

# choose_kernels.py --device cuda on an NVIDIA H200: never slower, but exponentials of one step (0.9x), left as they are
SMALLEST["cuda"] = {"spiking_unit": {1: 1}, "lif": {1: 1}, "exponentials": {1: 1}}

OLDEST = (7, 0)
"""Compute capability of an NVIDIA GPU; Triton compiles for no older one."""


def _vectorises() -> bool:
    """Whether the processor multiplies and adds in one rounding, as torch's vectorised sigmoid does."""
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return arm or torch.backends.cpu.get_cpu_capability().startswith("AVX")


_INSTALLED = importlib.util.find_spec("numba") is not None and _vectorises()
_as_written = False


@cache
def _gpu() -> bool:
    """Whether there is a GPU, and Triton to compile for it."""
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability() >= OLDEST


def computes(device: str) -> str | None:
    """Who computes neurons in one pass on a device; None: torch does, step by step.

    For a CPU no GPU is asked: a process that has woken one can no longer be forked.
    """
    if FORCED == "torch":
        return None
    if device == "cpu":
        return "numba" if _INSTALLED else None
    return "triton" if device == "cuda" and _gpu() else None


def available() -> dict[str, str]:
    """Who computes neurons in one pass, per device: `{"cpu": "numba"}`, and `"cuda": "triton"` where there is a GPU.

    A device that is missing has torch do it all, step by step.
    """
    return {device: who for device in ("cpu", "cuda") if (who := computes(device)) is not None}


@contextmanager
def step_by_step() -> Iterator[None]:
    """Everything in torch meanwhile, as if there were no kernels: what is looked at and held against others."""
    global _as_written
    before, _as_written = _as_written, True
    try:
        yield
    finally:
        _as_written = before


def pays(kind: str, x: Tensor) -> bool:
    """Whether a neuron of this kind runs fused on a sequence (T, ...), in float32.

    Not under the transforms of `torch.func`, whose rules are those of torch's own operations, nor on subclasses of
    tensors, which no kernel can look into.
    """
    if _as_written or x.dtype != torch.float32 or computes(x.device.type) is None:
        return False
    if type(x) not in (Tensor, nn.Parameter) or torch._C._are_functorch_transforms_active():
        return False
    return FORCED != "" or x.numel() >= smallest(x.device.type, kind, x.shape[0])


def smallest(device: str, kind: str, steps: int) -> int:
    """How many numbers a sequence of so many steps needs for one pass to be the faster."""
    sizes = SMALLEST[device][kind]
    return sizes[max(least for least in sizes if least <= steps)]
