"""What a caller gives, as what the rest of the package takes: a network as a machine, an input as numpy, options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.conversion import Converter
from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine

Converters = Mapping[type[nn.Module], Converter]
"""Module type -> function(module, features) that returns a layer; see `psu_deploy.to_state_machine`."""


def machine_of(
    model: nn.Module | StateMachine, input_shape: tuple[int, ...] | None, converters: Converters | None
) -> StateMachine:
    """A machine as it is, and a module captured.

    Raises:
        InputError: if it is neither, or a module comes without its input's shape, or a machine with converters.
        UnsupportedModelError: if the module cannot be captured.
    """
    if isinstance(model, StateMachine):
        if converters:
            raise InputError(
                "converters turn the layers of a module into those of a machine; this is a machine already"
            )
        return model
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch module or a StateMachine, got {type(model).__name__}")
    if input_shape is None:
        raise InputError("a module needs input_shape, the features of one step, such as input_shape=(700,)")
    return to_state_machine(model, input_shape, converters=converters)


def features_of(x: Any) -> tuple[int, ...]:
    """Features of one step of a sequence.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(x, np.ndarray | Tensor) or x.ndim < 3:
        raise InputError(f"x must be time-first, (T, B, *features); got {getattr(x, 'shape', type(x).__name__)}")
    return tuple(x.shape[2:])


def numpy_for(x: Any, model: nn.Module | StateMachine) -> Any:
    """x as numpy; in single precision where the module computes in it, so that every form gets the same numbers."""
    x = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    tensors = (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()
    single = any(t.dtype is torch.float32 for t in tensors)
    return x.astype(np.float32) if single and x.dtype == np.float64 else x


def check_options(function: Callable[..., Any], options: Mapping[str, Any], whose: str) -> None:
    """Raise `InputError` if a target's function has no such option."""
    known = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    names = [name for name, p in known.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(names))
    if unknown:
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        raise InputError(f"{whose} has no option {', '.join(map(repr, unknown))}; {takes}")
