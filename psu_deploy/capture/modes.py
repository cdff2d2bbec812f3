"""How a module is run while it is looked at: in eval form, in its own dtype and device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.func import functional_call

from psu_deploy.nn.kernels import step_by_step


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a module in its eval form, and every submodule back into its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def floating_like(model: nn.Module) -> Tensor:
    """A tensor of the model's floating point dtype and device: its first parameter or buffer, else a float32."""
    tensors = (*model.parameters(), *model.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def eagerly() -> AbstractContextManager[Any]:
    """Let what `torch.compile` has wrapped, or wraps meanwhile, run as it was written.

    Whoever has compiled has loaded its machinery; for whoever has not it stays away: importing it takes two seconds.
    """
    compiles = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if compiles else patch.object(torch, "compile", _as_written)


def _as_written(model: Any = None, **options: Any) -> Any:
    """Stands in for `torch.compile`, which without a model is a decorator."""
    return (lambda model: model) if model is None else model


@contextmanager
def in_full_precision() -> Iterator[None]:
    """Products and convolutions of float32 with all of its 24 bits, whatever is allowed in training (TF32)."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _SHORTCUTS]
    try:
        for owner, name, never in _SHORTCUTS:
            setattr(owner, name, never)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _shortcuts() -> list[tuple[Any, str, Any]]:
    """The switches of this torch, and how each is turned off."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):  # before torch 2.9
        return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
    kinds = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [(kind, "fp32_precision", "ieee") for kind in kinds]


_SHORTCUTS = _shortcuts()


@contextmanager
def as_deployed(model: nn.Module) -> Iterator[None]:
    """In eval form, without gradients, as it was written, step by step, in full precision; afterwards as it was."""
    with eval_mode(model), torch.no_grad(), eagerly(), step_by_step(), in_full_precision():
        yield


def in_float32(model: nn.Module, x: Tensor) -> Any:
    """Run a module; one of half precision with its numbers as they are, in the arithmetic of float32."""
    named = (*model.named_parameters(), *model.named_buffers())
    wider = {name: tensor.float() for name, tensor in named if tensor.dtype in (torch.float16, torch.bfloat16)}
    return functional_call(model, wider, (x,)) if wider else model(x)
