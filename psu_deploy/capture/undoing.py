"""What a network remembers of a run that does not count: given back, so that the next run starts as that one did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

_SEVERAL = (list, dict, set, deque)


def undoing(model: nn.Module) -> Callable[[], None]:
    """A function that gives a network back the attributes and buffers that it has now, and their contents.

    Parameters keep their numbers: no forward changes them. What lies elsewhere, in a closure say, is not known here.
    """
    modules = [module for module in model.modules() if not isinstance(module, LazyModuleMixin)]
    attributes = {module: dict(vars(module)) for module in modules}
    kept = [value for own in attributes.values() for value in own.values()]
    buffers = [buffer for module in modules for buffer in module._buffers.values()]
    contents = [(value, copy(value)) for value in kept if isinstance(value, _SEVERAL)]
    numbers = [(t, t.detach().clone()) for t in (*kept, *buffers) if type(t) is Tensor and not t.is_meta]

    def undo() -> None:
        for module, own in attributes.items():
            _refill(vars(module), own)
        for value, content in contents:
            _refill(value, content)
        with torch.no_grad():
            for tensor, before in numbers:
                if not torch.equal(tensor, before):
                    tensor.data.copy_(before)

    return undo


def _refill(container: Any, content: Any) -> None:
    container.clear()
    add = container.update if isinstance(container, dict | set) else container.extend
    add(content)
