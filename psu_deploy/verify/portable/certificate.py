"""What is known of every decision of a run, in any runtime that computes in IEEE-754 binary32."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.verify.certificate import Decision

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOST_LISTED = 1000
"""Knife edges that a certificate lists; it counts all of them."""


@dataclass(frozen=True)
class LayerCertificate:
    """The decisions of one neuron layer.

    The arrays are there while the certificate is that of `certify`; a file does not hold them, and they are None in one
    that was loaded.

    Attributes:
        name: of the layer.
        decisions: how many it made.
        certified_decisions: how many of them every runtime makes alike.
        tightest: the certified one whose margin is the fewest times its bound; None = none is certified.
        largest_bound: of a certified one; 0.0 where none is.
        margin: V - R - threshold in exact arithmetic, float64 (T, B, *features).
        bound: how far it can be off in any runtime, float64, of the same shape; infinite where nothing is known.
        certified: whether |margin| > bound, or nothing is rounded; of the same shape.
        first: step of the layer's first decision; above 0 behind a layer that looks ahead.
    """

    name: str
    decisions: int
    certified_decisions: int
    tightest: Decision | None
    largest_bound: float
    margin: Floats | None = field(default=None, compare=False, repr=False)
    bound: Floats | None = field(default=None, compare=False, repr=False)
    certified: Flags | None = field(default=None, compare=False, repr=False)
    first: int = 0

    @property
    def certified_share(self) -> float:
        """Of its decisions; 1.0 where it made none."""
        return self.certified_decisions / self.decisions if self.decisions else 1.0


@dataclass(frozen=True)
class PortableCertificate:
    """Which spikes every IEEE-754 binary32 runtime of a machine gives on some inputs; see `psu_deploy.certify`.

    Args:
        machine_hash: `StateMachine.content_hash`.
        input_hash: SHA-256 of the inputs, float64, C order, as hex.
        input_shape: of the inputs, (T, B, *features).
        cases: into how many a sample may be taken apart.
        cases_of: into how many every sample was, (B,); 1 where every decision was certain at once.
        layers: one per neuron layer, in network order.
        knife_edges: the decisions that are not certified, those of an earlier step first; the first `MOST_LISTED`.

    >>> import numpy as np
    >>> import psu_deploy as psu
    >>> machine = psu.to_state_machine(psu.models.DigitsNet("psu", hidden=4).eval(), input_shape=(8,))
    >>> certificate = psu.certify(machine, np.zeros((8, 1, 8), np.float32))
    >>> certificate.decisions, len(certificate.layers)
    (64, 2)
    """

    machine_hash: str
    input_hash: str
    input_shape: tuple[int, ...]
    cases: int
    cases_of: tuple[int, ...]
    layers: tuple[LayerCertificate, ...]
    knife_edges: tuple[Decision, ...]

    @property
    def decisions(self) -> int:
        """How many there are."""
        return sum(layer.decisions for layer in self.layers)

    @property
    def certified_decisions(self) -> int:
        """How many of them every runtime makes alike."""
        return sum(layer.certified_decisions for layer in self.layers)

    @property
    def certified_share(self) -> float:
        """Of all decisions; 1.0 where there are none."""
        return self.certified_decisions / self.decisions if self.decisions else 1.0

    @property
    def ok(self) -> bool:
        """Whether every decision is certified."""
        return self.certified_decisions == self.decisions

    @property
    def tightest(self) -> Decision | None:
        """The certified decision whose margin is the fewest times its bound; None = none is certified."""
        found = [layer.tightest for layer in self.layers if layer.tightest is not None]
        return min(found, key=tightness, default=None)

    @property
    def verdict(self) -> str:
        """One sentence: CERTIFIED, or how much of it and what is not."""
        from psu_deploy.verify.portable.rendering import verdict_of

        return verdict_of(self)

    def __str__(self) -> str:
        from psu_deploy.verify.portable.rendering import render

        return render(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `save` writes it."""
        from psu_deploy.verify.portable.storage import to_dict

        return to_dict(self)

    def save(self, path: str | Path) -> Path:
        """Write the certificate as JSON, whole or not at all.

        Raises:
            ArtifactError: if the file cannot be written.
        """
        from psu_deploy.verify.portable.storage import save

        return save(self, path)

    @staticmethod
    def load(path: str | Path) -> PortableCertificate:
        """Read a certificate that `save` wrote; its layers come without arrays.

        Raises:
            ArtifactError: if the file is missing, truncated, malformed or not a certificate, or contradicts itself.
        """
        from psu_deploy.verify.portable.storage import load

        return load(path)


def tightness(decision: Decision) -> float:
    """How many times its bound a margin is; infinite where nothing is rounded."""
    return abs(decision.margin) / decision.bound if decision.bound else np.inf
