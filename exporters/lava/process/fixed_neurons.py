"""Layers of neurons in whole numbers; `fixed` has what they are made of. Loihi's own LIF is left to Lava."""

from __future__ import annotations

from typing import Any

import numpy as np
from fixed import ESTIMATORS, operator, saturate, scale


class Reset:
    """R of a step, from the estimated spike: `Q = coefficient*S' / 2^shift`, then a leak, or an operator.

    With a leak, what is given out is R as it was; then `R = decay*(R + Q)`.
    """

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.coefficient, self.shift, self.shape = numbers["coefficient"], numbers["shift"], shape
        self.operator = operator(numbers["operator"], shape) if "operator" in numbers else None
        self.decay = numbers.get("decay")
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.left = np.zeros(self.shape, np.int64)
        if self.operator is not None:
            self.operator.clear()

    def advance(self, spike: Any, t: int) -> Any:
        """One step."""
        charge = saturate(scale(spike, self.coefficient, self.shift))
        if self.operator is not None:
            return self.operator.advance(charge, t)
        before, self.left = self.left, scale(saturate(self.left + charge), self.decay)
        return before


def current(numbers: dict[str, Any], a: Any) -> Any:
    """`x = (a << up) + fraction`, in 24 bits."""
    return saturate((a << numbers["up"]) + numbers.get("fraction", 0))


class PSU:
    """`V = integrate(x); E = estimate(x) or V; R = reset(S'(E)) or 0; S = V - R >= threshold`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.numbers, self.threshold = numbers, numbers["threshold"]
        self.integrate = operator(numbers["integrate"], shape)
        self.estimate = operator(numbers["estimate"], shape) if "estimate" in numbers else None
        self.estimator = ESTIMATORS[numbers["estimator"]["kind"]](numbers["estimator"])
        self.reset = Reset(numbers["reset"], shape) if "reset" in numbers else None

    def clear(self) -> None:
        """Forget."""
        for part in (self.integrate, self.estimate, self.reset):
            if part is not None:
                part.clear()

    def fire(self, a: Any, t: int) -> Any:
        """One step: 0 or 1."""
        x = current(self.numbers, a)
        potential = self.integrate.advance(x, t)
        if self.reset is None:
            return potential >= self.threshold
        seen = potential if self.estimate is None else self.estimate.advance(x, t)
        return potential - self.reset.advance(self.estimator(seen), t) >= self.threshold


class LIF:
    """`H = decay*V + x; S = H >= threshold; V = H - subtract where it spiked, or 0 where hard`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.numbers, self.decay, self.threshold = numbers, numbers["decay"], numbers["threshold"]
        self.subtract, self.hard, self.shape = numbers["subtract"], bool(numbers["hard"]), shape
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.potential = np.zeros(self.shape, np.int64)

    def fire(self, a: Any, t: int) -> Any:
        """One step: 0 or 1."""
        before = saturate(scale(self.potential, self.decay) + current(self.numbers, a))
        spikes = before >= self.threshold
        after = 0 if self.hard else before - self.subtract
        self.potential = saturate(np.where(spikes, after, before))
        return spikes


class Relay:
    """`operator(x)`, or x itself: whole numbers go on."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.numbers = numbers
        self.operator = operator(numbers["operator"], shape) if "operator" in numbers else None

    def clear(self) -> None:
        """Forget."""
        if self.operator is not None:
            self.operator.clear()

    def fire(self, a: Any, t: int) -> Any:
        """One step: numbers."""
        x = current(self.numbers, a)
        return x if self.operator is None else self.operator.advance(x, t)


NEURONS: dict[str, Any] = {"PSU": PSU, "LIF": LIF, "RELAY": Relay}
