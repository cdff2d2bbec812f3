"""The kernels for a GPU are compiled for one where there is none: machine code shows how they round."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from psu_deploy.nn.kernels import cuda
from tests.nn.kernels.triton_cases import EXPONENTIALS, INTERPRETED, LIFS, UNITS, exponentials, lif, moved, unit

pytestmark = [pytest.mark.full, pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")]

CALLS: dict[str, tuple[str, Callable[[], list[Any]]]] = {
    **{f"unit, {n}": ("spiking_unit", lambda o=options: unit(**o)) for n, options in UNITS.items()},
    **{f"LIF, {n}": ("lif", lambda o=options: lif(*o)) for n, options in LIFS.items()},
    **{f"exponentials, {terms}": ("exponentials", lambda o=terms: exponentials(o)) for terms in EXPONENTIALS},
}
STEPS_OF_EXP = 8
"""In a sigmoid, that round a product and a sum at once, as they do in torch."""


class NoGPU:
    """What a driver says of a GPU, of compute capability 8.0."""

    def get_current_device(self) -> int:
        return -1

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 80, 32)


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Kernels, compiled instead of launched."""
    import triton

    kernels: list[Any] = []

    def compile_only(kernel: Any, x: torch.Tensor, *arguments: Any, **kinds: Any) -> None:
        sizes = len(x), x.numel() // len(x)
        kernels.append(kernel.warmup(*arguments, *sizes, **kinds, **cuda._LAUNCH, grid=(cuda._programs(x),)))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cuda, "_run", compile_only)
    monkeypatch.setattr(triton.runtime.driver, "_active", NoGPU())
    return kernels


@pytest.mark.rows(6)
@pytest.mark.parametrize(("name", "call"), CALLS.values(), ids=CALLS)
def test_kernels_round_as_they_are_written(name: str, call: Callable[[], list[Any]], compiled: list[Any]) -> None:
    """No sum is contracted into a product, no division or power of two is an approximation."""
    inputs = moved(call(), torch.float32, "cpu")
    getattr(cuda, name)(*inputs)
    getattr(cuda, f"{name}_backward")(inputs[0], *inputs)
    for kernel in compiled:
        assert kernel.asm["cubin"]
        operations = Counter(
            re.findall(r"\b((?:fma|div|rcp|ex2|mul|add|sub|mad)(?:\.[a-z]+)*)\.f32\b", kernel.asm["ptx"])
        )
        assert set(operations) <= {"mul.rn", "add.rn", "sub.rn", "div.rn", "fma.rn"}
        assert operations["fma.rn"] % STEPS_OF_EXP == 0
        assert not operations["fma.rn"] or "sigmoid" in inputs or "staircase" in inputs
    assert len(compiled) == 2
