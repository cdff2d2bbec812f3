"""What is put in the place of torch's own code while a network is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def forward_replaced(module: nn.Module, by: Callable[..., Any]) -> Iterator[None]:
    """Another forward than that of the module's class, for the hooks of the module to run around.

    Args:
        module: whose.
        by: function(forward of the class, args, kwargs).
    """
    own = module.forward

    def call(*args: Any, **kwargs: Any) -> Any:
        replaced = vars(module).pop("forward")
        try:
            return by(own, args, kwargs)
        finally:
            vars(module)["forward"] = replaced

    vars(module)["forward"] = call
    try:
        yield
    finally:
        vars(module).pop("forward", None)


@contextmanager
def unseen() -> Iterator[None]:
    """What runs here is ours, a check say, and need not be followed: that costs more than it computes."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


@contextmanager
def without_inference_mode() -> Iterator[None]:
    """`torch.inference_mode` in a forward does nothing: its tensors do not count how often they are written."""

    def nothing(*args: Any) -> None:
        return

    mode = torch.inference_mode
    with patch.object(mode, "__enter__", nothing), patch.object(mode, "__exit__", nothing):
        yield
