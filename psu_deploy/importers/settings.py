"""What a training script was told, besides the tensors it saved."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import Atan, PiecewiseLinear, Surrogate
from psu_deploy.nn.neurons.surrogate import FireOn

_FIRE_ON: dict[str, FireOn] = {"AtanGrad": ">", "QGateGrad": ">", "SigmoidGrad": ">=", "ReLUGrad": ">="}
"""Name of a BrainCog surrogate -> how its forward pass compares."""

_DEFAULTS = {
    "sigmoid_thres": False,
    "n_groups": 1,
    "spike_output": False,
    "temporal_flatten": False,
    "encode": "direct",
}
"""Arguments of the script that change what the network computes; only these values can be imported."""


@dataclass(frozen=True)
class Settings:
    """The arguments that matter.

    Args:
        path: of the checkpoint.
        args: of the script; empty if the file has none.
        epoch: in which the checkpoint was saved; None if it does not say.
        given: what the caller says, `tau`, `threshold` and `epochs`; wins where the script is silent.
        fire_on: ">=" or ">".
    """

    path: Path
    args: Mapping[str, Any]
    epoch: int | None
    given: Mapping[str, float | None]
    fire_on: FireOn = ">"

    def check(self) -> None:
        """Raise `InputError` if the script was told something that changes the network in ways we do not know."""
        for name, default in _DEFAULTS.items():
            said = self.args.get(name, default)
            if not isinstance(said, bool | int | float | str) or said != default:
                raise InputError(
                    f"{self.path}: trained with {name}={said!r}, which changes what the network computes; "
                    f"only {name}={default!r} can be imported"
                )

    def firing(self, fixed: str) -> Settings:
        """The same settings with `fire_on` decided: by the neuron where it is fixed, else by the script's surrogate."""
        name = str(self.args.get("act_fun", "AtanGrad"))
        if fixed not in (">=", ">") and name not in _FIRE_ON:
            known = ", ".join(_FIRE_ON)
            raise InputError(f"{self.path}: act_fun={name!r} may or may not fire at equality; known are {known}")
        return replace(self, fire_on=">=" if fixed == ">=" else _FIRE_ON[name])

    def surrogate(self, parts: Mapping[str, Tensor]) -> Surrogate:
        """For training on: the one the script used, as sharp as it has become."""
        alpha = float(parts["act_fun.alpha"]) if "act_fun.alpha" in parts else 2.0
        return PiecewiseLinear(alpha) if self.args.get("act_fun") == "QGateGrad" else Atan(alpha)

    def number(self, name: str) -> float:
        """A number that the tensors do not hold.

        Raises:
            InputError: if neither script nor caller says it, or they contradict each other.
        """
        said, given = self._numeric(name, self.args.get(name)), self._numeric(name, self.given.get(name))
        if said is not None and given is not None and said != given:
            raise InputError(f"{self.path}: the script was called with {name}={said}, but {name}={given} is asked for")
        value = given if said is None else said
        if value is None:
            missing = f"{self.path} does not say {name}"
            raise InputError(f"{missing}; pass {name}=...", shell=f"{missing}; add --{name}")
        return value

    def agrees(self, name: str, found: float) -> None:
        """Raise `InputError` if the caller asks for another number than the tensors hold."""
        given = self._numeric(name, self.given.get(name))
        if given is not None and abs(given - found) > 1e-4 * abs(found):
            raise InputError(f"{self.path}: its tensors say {name} = {found:g}, but {name}={given:g} is asked for")

    def _numeric(self, name: str, value: Any) -> float | None:
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
            return None if value is None else float(value)
        raise InputError(f"{self.path}: {name} must be a finite number, got {value!r}")

    def masking(self) -> float:
        """lambda of a masked PSN whose script did not save it: `min(8 * epoch / (epochs - 1), 1)`."""
        if self.epoch is None:
            raise InputError(f"{self.path} does not say in which epoch it was saved, so the masking is unknown")
        folder = re.search(r"_e(\d+)_", self.path.absolute().parent.name)
        if folder is not None and self.args.get("epochs") is None and self.given.get("epochs") is None:
            epochs = float(folder.group(1))
        else:
            epochs = self.number("epochs")
        if not 0 <= self.epoch < epochs:
            raise InputError(f"{self.path} was saved in epoch {self.epoch}; that is none of {epochs:g}")
        return 1.0 if epochs == 1 else min(8 * self.epoch / (epochs - 1), 1.0)
