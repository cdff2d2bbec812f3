"""The sizes of the examples a network is captured on."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.modules import EXAMPLE_STEPS
from psu_deploy.capture.values import MOST_STEPS, Example
from psu_deploy.nn.neurons import PSN, MaskedPSN

_NAMES_OF_STEPS = ("T", "time_steps", "timesteps", "time_step", "num_steps", "n_steps", "steps")
"""Attributes by which a network knows how many steps it runs."""


def examples_for(model: nn.Module) -> list[Example]:
    """A short example, and one of the whole horizon for code that names T; then the same as a picture."""
    fixed = [steps for m in model.modules() if (steps := _fixed_steps(m)) is not None]
    horizons = [h for m in model.modules() if isinstance(h := getattr(m, "horizon", None), int)]
    most = min([*horizons, *fixed], default=None)
    horizon = most or EXAMPLE_STEPS
    named = [n for m in model.modules() for name in _NAMES_OF_STEPS if type(n := getattr(m, name, None)) is int]
    lengths = (
        [horizon]
        if fixed
        else [min(horizon, EXAMPLE_STEPS), horizon, *(n for n in named if 1 < n <= (most or MOST_STEPS))]
    )
    # A number in the code may be the horizon: it must not be taken for B or T*B.
    batches = {steps: next(b for b in (3, 2, 5) if b != steps and horizon not in (b, steps * b)) for steps in lengths}
    whole = set(fixed)
    sequences = [Example(steps, batches[steps], fixed=steps in whole, most=most) for steps in dict.fromkeys(lengths)]
    return [*sequences, *(replace(example, image=True) for example in sequences)]


def _fixed_steps(module: nn.Module) -> int | None:
    """The one number of steps that a module runs on, if there is only one."""
    if isinstance(module, PSN) or (isinstance(module, MaskedPSN) and module.lambda_ < 1.0):
        return module.horizon
    return spikingjelly.fixed_steps(module)
