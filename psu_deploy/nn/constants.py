"""Numbers that a module needs but neither learns nor saves."""

from __future__ import annotations

import torch


def starting_device() -> torch.device:
    """Where they are made: on the default device; on the CPU under "meta", which would not keep them."""
    default = torch.empty(0).device
    return torch.device("cpu") if default.type == "meta" else default
