"""Simulators that run whole sequences node by node, and whose neurons may spike several times per step.

They know no cycles, so nothing but leaks remembers. A threshold is two neurons that forget at once: the first counts
how often a small threshold fits, the second makes one spike of any count.

    n = trunc(v/threshold) spikes if v >= threshold;  v -= n*threshold
"""

from __future__ import annotations

from abc import abstractmethod

import nir
import numpy as np

from psu_deploy.errors import InternalError
from psu_deploy.exporters.nir import primitives
from psu_deploy.exporters.nir.dialects.base import Dialect
from psu_deploy.exporters.nir.primitives import Vertex
from psu_deploy.machine.ops.fields import Shape

_FINEST = 2.0**-4
"""Threshold of the neuron that counts, where the neuron's own threshold gives no scale."""


class CountingDialect(Dialect):
    """What sinabs and rockpool share."""

    drive = 1.0
    """By what the input of a neuron that forgets at once must be multiplied."""

    slack = 0.0
    """Relative; how far rounding in such a neuron can move its input."""

    one = 2.0**-23
    """What one count is worth at the second neuron: so many counts the other way round still make one spike."""

    @abstractmethod
    def at_once(self, threshold: float, shape: Shape) -> nir.NIRNode:
        """A neuron that remembers nothing."""

    def write_step(self, vertex: Vertex, step: primitives.Step, shape: Shape) -> str:
        """All thresholds are alike here; see `passes.one_threshold`."""
        threshold = step.thresholds[0]
        unit = 2.0 ** np.floor(np.log2(threshold)) / 4 if threshold > 0 else _FINEST
        counted = unit if step.fire_on == ">=" else float(np.nextafter(np.float32(unit), np.float32(np.inf)))
        entry, count, once = (f"{vertex.name}__{role}" for role in ("above", "count", "once"))
        one = np.eye(1) * self.drive
        self.nodes[entry] = self.pointwise(entry, one, self.drive * np.array([unit - threshold]), shape)
        self.nodes[count] = self.at_once(counted * (1 - self.slack), shape)
        self.nodes[once] = self.pointwise(once, one * self.one, self.drive * np.array([1 - self.one / 2]), shape)
        self.nodes[vertex.name] = self.at_once(1.0, shape)
        for edge in ((entry, count), (count, once), (once, vertex.name)):
            self.connect(*edge)
        return entry

    def write_taps(self, vertex: Vertex, taps: primitives.Taps, shape: Shape) -> str:
        raise self._refused_before(vertex)

    def write_fire(self, vertex: Vertex, fire: primitives.Fire, shape: Shape) -> str:
        raise self._refused_before(vertex)

    def _refused_before(self, vertex: Vertex) -> InternalError:
        return InternalError(f"{vertex.name} should have been refused: {self.target.title} has no cycles")
