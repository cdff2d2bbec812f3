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


def in_float32(model: nn.Module, x: Tensor) -> Any:
    """Run a module; one of half precision with its numbers as they are, in the arithmetic of float32."""
    named = (*model.named_parameters(), *model.named_buffers())
    wider = {name: tensor.float() for name, tensor in named if tensor.dtype in (torch.float16, torch.bfloat16)}
    return functional_call(model, wider, (x,)) if wider else model(x)


def sole_output(result: Any) -> Any:
    """The tensor that a network returns, also as the one thing in a tuple whose other entries are None."""
    given = [one for one in result if one is not None] if isinstance(result, tuple | list) else []
    return given[0] if len(given) == 1 else result
