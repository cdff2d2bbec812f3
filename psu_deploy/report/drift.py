"""How far V and the outputs are from exact arithmetic, step by step: does rounding pile up over a long sequence?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops import Neuron
from psu_deploy.verify.certificate import Certificate
from psu_deploy.verify.witness import Seen

Rows = NDArray[np.float64]


@dataclass
class Drift:
    """Of one layer's V, or of one output.

    Attributes:
        errors: name of the run -> largest |value - exact value| of every step, (T,), given what that run fired.
        bound: the largest rounding bound of every step, (T,).
    """

    errors: dict[str, Rows] = field(default_factory=dict)
    bound: Rows | None = None

    @property
    def inexact(self) -> bool:
        """Whether anything is rounded at all."""
        return self.bound is not None and bool((self.bound > 0).any())

    @property
    def share(self) -> float:
        """The largest error as a share of the largest bound."""
        bound = 0.0 if self.bound is None else float(self.bound.max())
        return max((float(error.max()) for error in self.errors.values()), default=0.0) / bound if bound else 0.0

    def add(self, name: str, value: Any, exact: Tensor, bound: Tensor) -> None:
        """A part of the batch: all (T, B, *features)."""
        error = _largest((torch.as_tensor(np.asarray(value, np.float64)) - exact).abs())
        self.errors[name] = np.maximum(self.errors.get(name, 0.0), error)
        self.bound = np.maximum(0.0 if self.bound is None else self.bound, _largest(bound))


@dataclass
class Drifts:
    """Of a whole network.

    Attributes:
        layers: neuron layer -> drift of its V; not of layers whose V no run tells.
        outputs: output -> its drift; not of those that are told for the last step only.
    """

    layers: dict[str, Drift] = field(default_factory=dict)
    outputs: dict[str, Drift] = field(default_factory=dict)

    def add(self, machine: StateMachine, seen: Seen, known: frozenset[str]) -> None:
        """Both runs of a comparison that was judged, but for those that another comparison has told about."""
        slopes = {n.name: n.layer.potential_slope for n in machine.nodes if isinstance(n.layer, Neuron)}
        runs = zip(seen.names, seen.traces, seen.certificates, strict=True) if seen.certificates else ()
        for name, trace, certificate in runs:
            if name not in known:
                self._add(name, trace, certificate, slopes)

    def _add(self, name: str, trace: Trace, certificate: Certificate, slopes: dict[str, float]) -> None:
        exact, bounds = certificate.exact, certificate.bounds
        for layer, value in trace.potential.items():
            drift = self.layers.setdefault(layer, Drift())
            drift.add(name, value, exact.potential[layer], bounds.margin[layer] * slopes[layer])
        for output, value in trace.outputs.items():
            if len(value) == len(exact.outputs[output]):
                drift = self.outputs.setdefault(output, Drift())
                drift.add(name, value, exact.outputs[output], bounds.outputs[output])


def _largest(values: Tensor) -> Rows:
    rows: Rows = values.flatten(1).amax(1).numpy()
    return rows
