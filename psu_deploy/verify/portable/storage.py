"""Certificates on disk: JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from psu_deploy.errors import ArtifactError
from psu_deploy.files.atomic import write_whole
from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.portable.binary32 import U
from psu_deploy.verify.portable.certificate import LayerCertificate, PortableCertificate
from psu_deploy.verify.portable.consistency import contradictions

FORMAT = "psu-deploy.portable-certificate"
VERSION = 1


def to_dict(certificate: PortableCertificate) -> dict[str, Any]:
    """Plain data; an infinite bound is None, as JSON has no infinity."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "verdict": certificate.verdict,
        "machine": certificate.machine_hash,
        "input": {"sha256": certificate.input_hash, "shape": list(certificate.input_shape)},
        "arithmetic": {"precision": "IEEE-754 binary32, round to nearest", "unit_roundoff": U},
        "cases": {"most": certificate.cases, "of_samples": list(certificate.cases_of)},
        "decisions": certificate.decisions,
        "certified": certificate.certified_decisions,
        "tightest": _plain(certificate.tightest),
        "layers": [_layer(layer) for layer in certificate.layers],
        "knife_edges": [_plain(one) for one in certificate.knife_edges],
    }


def save(certificate: PortableCertificate, path: str | Path) -> Path:
    """Write it; anything that goes wrong is an `ArtifactError`."""
    write_whole(path, (json.dumps(to_dict(certificate), indent=1, allow_nan=False) + "\n").encode())
    return Path(path)


def load(path: str | Path) -> PortableCertificate:
    """Read what `save` wrote; anything else, and what says two things of one, is an `ArtifactError`."""
    source = Path(path)
    try:
        data = json.loads(source.read_bytes(), object_pairs_hook=_once)
        _check_format(source, data)
        layers = tuple(_read_layer(layer) for layer in data["layers"])
        edges = tuple(_read(one) for one in data["knife_edges"])
        shape = tuple(int(n) for n in data["input"]["shape"])
        cases, counts = int(data["cases"]["most"]), tuple(int(n) for n in data["cases"]["of_samples"])
        certificate = PortableCertificate(
            str(data["machine"]),
            str(data["input"]["sha256"]),
            shape,
            cases,
            counts,
            layers,
            tuple(edge for edge in edges if edge is not None),
        )
    except OSError as error:
        raise ArtifactError(f"cannot read {source}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{source} is malformed or is not a certificate: {error}") from error
    for wrong in contradictions(certificate):
        raise ArtifactError(f"{source} contradicts itself: {wrong}")
    if to_dict(certificate) != data:
        raise ArtifactError(f"{source} contradicts itself: its sums are not those of its layers")
    return certificate


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one name a reader may see either."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _check_format(source: Path, data: Any) -> None:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(f"{source} is not a portable certificate")
    if data.get("version") != VERSION:
        raise ArtifactError(
            f"{source} is a certificate of version {data.get('version')!r}; this release reads {VERSION}"
        )


def _layer(layer: LayerCertificate) -> dict[str, Any]:
    return {
        "name": layer.name,
        "first_step": layer.first,
        "decisions": layer.decisions,
        "certified": layer.certified_decisions,
        "tightest": _plain(layer.tightest),
        "largest_bound": layer.largest_bound,
    }


def _read_layer(data: Any) -> LayerCertificate:
    decisions, certified = int(data["decisions"]), int(data["certified"])
    tightest, largest = _read(data["tightest"]), float(data["largest_bound"])
    return LayerCertificate(str(data["name"]), decisions, certified, tightest, largest, first=int(data["first_step"]))


def _plain(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "layer": decision.layer,
        "t": decision.t,
        "sample": decision.sample,
        "neuron": list(decision.neuron),
        "margin": _number(decision.margin),
        "bound": _number(decision.bound),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _read(data: Any) -> Decision | None:
    if data is None:
        return None
    margin, bound = (math.inf if data[name] is None else float(data[name]) for name in ("margin", "bound"))
    neuron = tuple(int(n) for n in data["neuron"])
    return Decision(str(data["layer"]), int(data["t"]), int(data["sample"]), neuron, margin, bound)
