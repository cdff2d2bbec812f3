"""What a certificate says twice must be the same twice: all that can be told of one without its machine."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.portable.certificate import MOST_LISTED, LayerCertificate, PortableCertificate


def contradictions(certificate: PortableCertificate) -> Iterator[str]:
    """What of it cannot be so, sentence by sentence; nothing where it can."""
    shape, counts, most = certificate.input_shape, certificate.cases_of, certificate.cases
    if len(shape) < 2 or min(shape) < 0:
        yield f"inputs of shape {shape} are not (T, B, *features)"
        return
    for name, digest in (("machine", certificate.machine_hash), ("input", certificate.input_hash)):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            yield f"the SHA-256 of its {name} is none"
    if len(counts) != shape[1] or any(not 1 <= count <= most for count in counts):
        yield f"{shape[1]} samples, each of 1 to {most} cases, are not the cases {counts}"
    if len({layer.name for layer in certificate.layers}) < len(certificate.layers):
        yield "two layers have one name"
    for layer in certificate.layers:
        yield from (f"layer {layer.name!r}: {wrong}" for wrong in _of_layer(layer, shape))
    yield from _of_knife_edges(certificate)


def _of_layer(layer: LayerCertificate, shape: tuple[int, ...]) -> Iterator[str]:
    rows, tightest = max(0, shape[0] - layer.first) * shape[1], layer.tightest
    if layer.first < 0:
        yield f"its first step is {layer.first}"
    if layer.decisions % rows if rows else layer.decisions:
        yield f"{layer.decisions} decisions from step {layer.first} on are not as many at each step of each sample"
    if not 0 <= layer.certified_decisions <= layer.decisions:
        yield f"{layer.certified_decisions} of {layer.decisions} decisions are certified"
    if (tightest is None) != (layer.certified_decisions == 0):
        yield f"{layer.certified_decisions} decisions are certified, and the tightest of them is {tightest}"
    if not 0 <= layer.largest_bound < math.inf or (tightest is None and layer.largest_bound):
        yield f"its largest bound is {layer.largest_bound}"
    if tightest is not None:
        if tightest.layer != layer.name or not _inside(tightest, layer, shape):
            yield "its tightest decision is none of its own"
        if _uncertain(tightest) or not 0 <= tightest.bound <= layer.largest_bound:
            yield f"its tightest decision has margin {tightest.margin}, bound {tightest.bound}, and is not certified"


def _of_knife_edges(certificate: PortableCertificate) -> Iterator[str]:
    edges, layers = certificate.knife_edges, {layer.name: layer for layer in certificate.layers}
    missing = certificate.decisions - certificate.certified_decisions
    listed = Counter(edge.layer for edge in edges)
    too_many = any(count > _missing(layers.get(name)) for name, count in listed.items())
    if len(edges) != min(missing, MOST_LISTED) or too_many:
        yield f"{missing} decisions are not certified, and it lists {len(edges)} knife edges"
        return
    order = {name: index for index, name in enumerate(layers)}
    places = [(edge.t, order[edge.layer], edge.sample, edge.neuron) for edge in edges]
    if places != sorted(set(places)):
        yield "its knife edges are not in the order of steps, layers, samples and neurons, or one is there twice"
    tightest = {layer.tightest[:4] for layer in certificate.layers if layer.tightest is not None}
    for edge in edges:
        if not _inside(edge, layers[edge.layer], certificate.input_shape) or edge[:4] in tightest:
            yield f"{edge} is no place for a knife edge"
        elif not _uncertain(edge):
            yield f"{edge} is a knife edge, and its margin is above its bound"


def _missing(layer: LayerCertificate | None) -> int:
    return layer.decisions - layer.certified_decisions if layer is not None else 0


def _inside(decision: Decision, layer: LayerCertificate, shape: tuple[int, ...]) -> bool:
    steps, batch = layer.first <= decision.t < shape[0], 0 <= decision.sample < shape[1]
    return steps and batch and min(decision.neuron, default=0) >= 0


def _uncertain(decision: Decision) -> bool:
    """As `certify` has it: what is not rounded at all is certain, however small the margin."""
    return abs(decision.margin) <= decision.bound and decision.bound != 0
