"""The sizes of the examples a network is captured on."""

from __future__ import annotations

from torch import nn

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.values import Example
from psu_deploy.nn.neurons import PSN, MaskedPSN

EXAMPLE_STEPS = 4
"""Of a network that runs for any number of steps."""


def examples_for(model: nn.Module) -> list[Example]:
    """A short example, and one of the whole horizon for code that names T; B differs from T."""
    fixed = [steps for m in model.modules() if (steps := _fixed_steps(m)) is not None]
    horizons = [h for m in model.modules() if isinstance(h := getattr(m, "horizon", None), int)]
    horizon = min([*horizons, *fixed], default=EXAMPLE_STEPS)
    whole = bool(fixed)
    lengths = {horizon} if whole else {min(horizon, EXAMPLE_STEPS), horizon}
    # A number in the code may be the horizon: it must not be taken for B or T*B.
    batches = {steps: next(b for b in (3, 2, 5) if b != steps and horizon not in (b, steps * b)) for steps in lengths}
    return [Example(steps, batches[steps]) for steps in sorted(lengths)]


def _fixed_steps(module: nn.Module) -> int | None:
    """The one number of steps that a module runs on, if there is only one."""
    if isinstance(module, PSN) or (isinstance(module, MaskedPSN) and module.lambda_ < 1.0):
        return module.horizon
    return spikingjelly.fixed_steps(module)
