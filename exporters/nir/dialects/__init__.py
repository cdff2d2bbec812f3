"""Canonical network -> NIR nodes, in the vocabulary of one kind of reader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from psu_deploy.errors import Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.nir import passes
from psu_deploy.exporters.nir.dialects.affine import AffineDialect
from psu_deploy.exporters.nir.dialects.base import Dialect
from psu_deploy.exporters.nir.dialects.canonical import CanonicalDialect
from psu_deploy.exporters.nir.dialects.rockpool import RockpoolDialect
from psu_deploy.exporters.nir.dialects.sinabs import SinabsDialect
from psu_deploy.exporters.nir.primitives import Network
from psu_deploy.exporters.nir.refusals import check
from psu_deploy.exporters.nir.target import NirTarget

_DIALECTS: dict[str, type[Dialect]] = {
    "canonical": CanonicalDialect,
    "affine": AffineDialect,
    "sinabs": SinabsDialect,
    "rockpool": RockpoolDialect,
}


def to_nodes(network: Network, target: NirTarget) -> Dialect:
    """Lower a network to what the target understands, and write it down.

    Raises:
        UnsupportedModelError: listing everything that the target cannot read.
    """
    action = f"export the network to NIR for {target.title}"
    try:
        for one_pass in legalisation(target):
            network = one_pass(network)
    except Refusal as error:
        raise UnsupportedModelError([Problem("the network", "graph", error.reason, error.remedy)], action) from error
    dialect = _DIALECTS[target.dialect](network, target)
    problems: dict[Problem, None] = {}
    for vertex in network:
        try:
            check(vertex, dialect.shapes[vertex.inputs[0]], target)
            dialect.write(vertex)
        except Refusal as error:
            problems[network.problem(vertex.name, error.reason, error.remedy)] = None
    if problems:
        raise UnsupportedModelError(list(problems), action)
    dialect.close()
    return dialect


def legalisation(target: NirTarget) -> list[Callable[[Network], Network]]:
    """The passes a target needs, in order."""
    found: list[Callable[[Network], Network]] = []
    if not target.flatten:
        found.append(passes.keep_images)
    if not target.avg_pool:
        found.append(passes.sums_for_means)
    if target.dialect in ("canonical", "affine"):  # the others have a place of their own for the tie
        found.append(partial(passes.moved_thresholds, ties=target.ties))
    if target.dialect == "rockpool":
        found.append(passes.gains_before_decay)
    if target.dialect != "canonical":
        found += [passes.unit_gains, passes.divided_inputs, passes.one_threshold, passes.fold]
    return found


__all__ = ["Dialect", "legalisation", "to_nodes"]
