"""How sure every decision is: the one place that knows where margins and their bounds come from."""

from __future__ import annotations

from torch import Tensor

from psu_deploy.verify import Certificate


def margins_of(certificate: Certificate) -> dict[str, tuple[Tensor, Tensor]]:
    """Neuron layer -> (margin in exact arithmetic, how far rounding can move it), both (T, B, *features), float64.

    A decision with |margin| > bound is certified: whoever computes it in the same precision decides it that way.
    """
    return {name: (margin, certificate.bounds.margin[name]) for name, margin in certificate.exact.margin.items()}
