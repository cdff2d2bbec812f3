"""Layers of neurons in float64, as the network was before its numbers were made whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from floating import ESTIMATORS, operator

FIRES: dict[str, Any] = {">=": np.greater_equal, ">": np.greater}


class Reset:
    """R of a step: read, then `R = decay*(R + gain*S')`; or `operator(S')`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.operator = operator(numbers["operator"], shape) if "operator" in numbers else None
        self.gain, self.decay, self.shape = numbers.get("gain"), numbers.get("decay"), shape
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.left = np.zeros(self.shape)
        if self.operator is not None:
            self.operator.clear()

    def advance(self, spike: Any, t: int) -> Any:
        """One step."""
        if self.operator is not None:
            return self.operator.advance(spike, t)
        before, self.left = self.left, self.decay * (self.left + self.gain * spike)
        return before


class PSU:
    """`V = integrate(a); E = estimate(a) or V; S = V - R - threshold >= 0`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.integrate = operator(numbers["integrate"], shape)
        self.estimate = None if numbers["estimate"] is None else operator(numbers["estimate"], shape)
        self.estimator = ESTIMATORS[numbers["estimator"]["kind"]](numbers["estimator"])
        self.reset = None if numbers["reset"] is None else Reset(numbers["reset"], shape)
        self.threshold, self.fires = np.array(numbers["threshold"], float), FIRES[numbers["fire_on"]]

    def clear(self) -> None:
        """Forget."""
        for part in (self.integrate, self.estimate, self.reset):
            if part is not None:
                part.clear()

    def fire(self, a: Any, t: int) -> Any:
        """One step: 0 or 1."""
        potential = self.integrate.advance(a, t)
        seen = potential if self.estimate is None else self.estimate.advance(a, t)
        left = 0.0 if self.reset is None else self.reset.advance(self.estimator(seen), t)
        return self.fires(potential - left - self.threshold, 0.0)


class LIF:
    """`H = decay*V + gain*a; S = H - threshold >= 0; V = H - threshold*S`, or 0 where it spiked if hard."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.decay, self.gain, self.hard = float(numbers["decay"]), float(numbers["gain"]), bool(numbers["hard"])
        self.threshold, self.fires = np.array(numbers["threshold"], float), FIRES[numbers["fire_on"]]
        self.shape = shape
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.potential = np.zeros(self.shape)

    def fire(self, a: Any, t: int) -> Any:
        """One step: 0 or 1."""
        before = self.decay * self.potential + self.gain * a
        spikes = self.fires(before - self.threshold, 0.0)
        self.potential = np.where(spikes, 0.0 if self.hard else before - self.threshold, before)
        return spikes


class Gate:
    """`S = a > 0`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        pass

    def clear(self) -> None:
        """Nothing to forget."""

    def fire(self, a: Any, t: int) -> Any:
        """One step: 0 or 1."""
        return a > 0


class Relay:
    """`operator(a)`, or a itself."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.operator = None if numbers["operator"] is None else operator(numbers["operator"], shape)

    def clear(self) -> None:
        """Forget."""
        if self.operator is not None:
            self.operator.clear()

    def fire(self, a: Any, t: int) -> Any:
        """One step: numbers."""
        return a if self.operator is None else self.operator.advance(a, t)


NEURONS: dict[str, Any] = {"PSU": PSU, "LIF": LIF, "GATE": Gate, "RELAY": Relay}
