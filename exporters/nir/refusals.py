"""What a reader cannot do, as its table says: each rule is one column of `target.NirTarget` and the reason it gives."""

from __future__ import annotations

from collections.abc import Callable

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.primitives import Convolution, Dense, Fire, Flatten, Leak, Mix, Pool, Step, Taps, Vertex
from psu_deploy.exporters.nir.target import NirTarget
from psu_deploy.machine.ops.fields import Shape

_LARGEST_MATRIX = 2**26
"""Entries; 256 MiB in float32."""

Rule = Callable[[Vertex, Shape, NirTarget], tuple[str, str] | None]
"""(vertex, features in, target) -> reason and remedy, or None where nothing stands in the way."""


def check(vertex: Vertex, shape: Shape, target: NirTarget) -> None:
    """Raise `Refusal` if the target cannot read a vertex."""
    for rule in _RULES:
        found = rule(vertex, shape, target)
        if found is not None:
            raise Refusal(*found)


def _cycles(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if target.cycles:
        return None
    if isinstance(vertex.primitive, Taps):
        reason = f"{target.title} reads neither delays nor cycles, so no sliding window"
        return reason, "use a neuron made of leaks (PSU), or another simulator"
    if isinstance(vertex.primitive, Fire) or vertex.feedback:
        reason = f"LIF in {target.title} subtracts, and spikes several times per step"
        return reason, "use PSU, or another simulator"
    return None


def _convolutions(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if target.convolutions or not isinstance(vertex.primitive, Convolution | Pool | Flatten):
        return None
    return f"{target.title} reads dense layers only", "use nn.Linear, or another simulator"


def _images(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if target.images or len(shape) == 1 or not isinstance(vertex.primitive, Leak | Step):
        return None
    return f"{target.title} reads neurons of one axis only", "flatten before the neuron"


def _axes(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    linear = isinstance(vertex.primitive, Dense | Convolution | Mix | Leak | Taps)
    known = (1, 2, 3) if target.conv1d else (1, 3)
    if len(shape) in known or not linear:
        return None
    reason = f"{target.title} cannot read layers over features of {len(shape)} axes"
    return reason, "choose another simulator, or use features of one or three axes"


def _lines(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if target.dialect != "affine" or not isinstance(vertex.primitive, Taps):
        return None
    wide = vertex.primitive.order * shape[0]
    if wide * wide <= _LARGEST_MATRIX:
        return None
    reason = f"{target.title} needs a matrix of {wide} x {wide} for a memory of {vertex.primitive.order} steps"
    return reason, "use a shorter delay or window, or the canonical graph"


def _integrators(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if target.integrator or not isinstance(vertex.primitive, Fire) or vertex.primitive.tau is not None:
        return None
    reason = f"{target.title} cannot read IF, a neuron without leak that resets to zero"
    return reason, 'use a leak, reset="soft", or another simulator (spikingjelly)'


def _thresholds(vertex: Vertex, shape: Shape, target: NirTarget) -> tuple[str, str] | None:
    if not target.positive_thresholds or not isinstance(vertex.primitive, Fire) or vertex.primitive.threshold > 0:
        return None
    reason = f"{target.title} cannot read LIF with a threshold of zero or less"
    return reason, "use a positive threshold, or another simulator"


_RULES: tuple[Rule, ...] = (_convolutions, _cycles, _images, _axes, _lines, _integrators, _thresholds)
