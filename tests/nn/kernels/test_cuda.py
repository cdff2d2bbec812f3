"""When a GPU's kernels run, and what they leave to the reference."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from psu_deploy.nn.kernels import available, choice, cuda, operators

X = torch.ones(3, 2)
SHARE = torch.tensor(0.5)


@pytest.mark.parametrize("name", ["spiking_unit", "lif", "exponentials"])
def test_torch_knows_them(name: str) -> None:
    for operator in (name, f"{name}_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"psu_deploy::{operator}", "CUDA")


@pytest.mark.parametrize(
    ("inputs", "who"),
    [
        ((X, None, 2.0), "kernel"),
        ((X.double(), SHARE.double(), 2.0), "kernel"),
        ((X, SHARE.double(), 2.0), "reference"),
        ((X.half(), None, 2.0), "reference"),
        ((X[:0], None, 2.0), "reference"),
        ((X[:, :0], None, 2.0), "reference"),
    ],
)
def test_what_kernels_cannot_take_goes_to_the_reference(inputs, who, monkeypatch) -> None:
    run = cuda._where_it_fits(lambda *_: "kernel", lambda *_: "reference")
    monkeypatch.setattr(choice, "computes", lambda device: "triton" if device == "cuda" else None)
    assert run(*inputs) == who
    monkeypatch.setattr(choice, "computes", lambda device: None if device == "cuda" else "numba")
    assert run(*inputs) == "reference"


@pytest.mark.parametrize(
    ("installed", "there", "capability", "hip", "runs"),
    [
        (True, True, (7, 0), None, True),
        (True, True, (6, 1), None, False),
        (True, True, (6, 1), "6.2", True),
        (False, True, (9, 0), None, False),
        (True, False, (9, 0), None, False),
    ],
)
def test_a_gpu_needs_triton_and_triton_a_gpu(installed, there, capability, hip, runs, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if installed and name == "triton" else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(choice, "_gpu", choice._gpu.__wrapped__)
    assert (choice.computes("cuda") == "triton") is runs
    assert ("cuda" in available()) is runs
    monkeypatch.setattr(choice, "FORCED", "torch")
    assert choice.computes("cuda") is None


def test_no_gpu_is_woken_for_a_cpu(monkeypatch) -> None:
    def refuse() -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(choice, "_gpu", refuse)
    assert choice.pays("lif", torch.ones(5, 4096))
    operators.lif(torch.ones(5, 4096), None, 2.0, 1.0, True, True, False, ">=", "atan", 2.0)


@pytest.mark.parametrize("kind", ["spiking_unit", "lif", "exponentials"])
def test_a_gpu_runs_all_of_them_fused(kind: str) -> None:
    assert choice.smallest("cuda", kind, 1) == 1 == choice.smallest("cuda", kind, 1000)
