"""A certificate for people."""

from __future__ import annotations

from psu_deploy.text import visible
from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.portable.certificate import PortableCertificate

_SHOWN = 5
"""Knife edges in the text; the others stand in the JSON."""


def verdict_of(certificate: PortableCertificate) -> str:
    """CERTIFIED, or how much of it and what is not."""
    total, held = certificate.decisions, certificate.certified_decisions
    if not total:
        return "NOTHING TO CERTIFY: the network decides nothing on these inputs"
    if held == total:
        tight = certificate.tightest
        assert tight is not None
        return (
            f"CERTIFIED: {held:,} of {total:,} decisions hold in every IEEE-754 binary32 runtime; "
            f"tightest {_where(tight)}: {_sizes(tight)}"
        )
    return f"{_percent(held, total)} % CERTIFIED: {total - held:,} of {total:,} decisions may differ between runtimes"


def render(certificate: PortableCertificate) -> str:
    """The verdict; where something is not certified, layer by layer, the first of it, and what to do."""
    lines = [certificate.verdict]
    if certificate.ok:
        return lines[0]
    for layer in certificate.layers:
        share = _percent(layer.certified_decisions, layer.decisions)
        missing = layer.decisions - layer.certified_decisions
        lines.append(f"  layer {visible(repr(layer.name))}: {share} % certified, {missing:,} not")
    first = certificate.knife_edges[:_SHOWN]
    lines += [f"  knife edge: {_where(one)}: {_sizes(one)}" for one in first]
    lines.append(
        "next: certify fewer or other inputs, train for larger margins, or compare the runtimes you use, spike by "
        "spike, with psu-deploy verify"
    )
    return "\n".join(lines)


def _where(decision: Decision) -> str:
    layer = visible(repr(decision.layer))
    return f"at layer {layer}, step {decision.t}, sample {decision.sample}, neuron {decision.neuron}"


def _sizes(decision: Decision) -> str:
    return f"margin {abs(decision.margin):.2g}, bound {decision.bound:.2g}"


def _percent(part: int, whole: int) -> str:
    """Rounded down, and never 100 where something is missing."""
    if not whole or part == whole:
        return "100"
    digits = 2 if whole - part > whole // 1000 else 4
    scaled = part * 100 * 10**digits // whole
    return f"{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}"
