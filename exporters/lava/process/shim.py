"""lava-dl's network exchange ("netx") without torch, which it needs for nothing that a .net file of ours holds.

`lava.lib.dl.netx` imports two modules that import torch, matplotlib and opencv (5 GB with their like):

    lava.lib.dl.slayer.neuron.rf            one function, for resonate-and-fire neurons
    lava.lib.dl.netx.sequential_modules     tools around a network, used by no block

Both are stood in for by empty modules here, before netx is imported; nothing else of lava-dl is touched. What is needed
of netx is imported from here, so that nobody imports it too early.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_SLAYER = "lava.lib.dl.slayer"
_STOOD_IN_FOR = (_SLAYER, f"{_SLAYER}.neuron", f"{_SLAYER}.neuron.rf", "lava.lib.dl.netx.sequential_modules")


def _no_resonators(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("resonate-and-fire neurons need lava-dl with torch; a .net file of psu-deploy has none")


def _stand_in() -> None:
    """Put empty modules where torch would be imported, unless something is there already."""
    for name in _STOOD_IN_FOR:
        module = sys.modules.setdefault(name, ModuleType(name))
        if not hasattr(module, "__file__"):
            module.__file__ = __file__  # Lava's compiler asks every module where it lies
    rf: Any = sys.modules[f"{_SLAYER}.neuron.rf"]
    if not hasattr(rf, "neuron_params"):
        rf.neuron_params = _no_resonators


_stand_in()

from lava.lib.dl.netx import hdf5  # noqa: E402
from lava.lib.dl.netx.blocks.models import AbstractPyBlockModel, PyConvModel, PyDenseModel  # noqa: E402
from lava.lib.dl.netx.blocks.process import Conv, Dense  # noqa: E402

__all__ = ["AbstractPyBlockModel", "Conv", "Dense", "PyConvModel", "PyDenseModel", "hdf5"]
