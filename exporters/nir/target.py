"""What every simulator can read, as tables: vocabulary, discretisation, tie rule, limits. Measured, not promised.

Sources: every entry was found by running the named versions; see README.md of this folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.exporters.target import Option, Target
from psu_deploy.verify import Arithmetic

SUFFIX = ".nir"

DT = 1e-4
"""Seconds per step in every file. snntorch cannot be told another."""

FORMAT = "psu-deploy.nir.1"

KEY = "psu_deploy"
"""Of our metadata in the graph."""


@dataclass(frozen=True)
class NirTarget:
    """One dialect: what a reader understands, and how.

    Args:
        name: as given to `simulator=`.
        title: for people.
        versions: package -> range it was measured with.
        dialect: "canonical", "affine" (leaks as cycles of Affine nodes), "sinabs" or "rockpool".
        ties: what the reader does with a membrane potential of exactly the threshold, ">" (silent) or ">=" (fires);
            None = several readers, of both kinds.
        depth_first: whether it runs nodes in depth-first order, so that a sum must lie on one path.
        convolutions: whether it reads convolutions, poolings and Flatten.
        conv1d: whether it reads Conv1d.
        avg_pool: whether it reads AvgPool2d.
        images: whether neurons may have more than one axis.
        flatten: whether it flattens a batch right.
        integrator: whether it reads IF, the leak-free neuron that resets to zero.
        memoryless_lif: whether it reads LIF with tau = dt.
        cycles: whether a feedback edge means one step of delay.
        positive_thresholds: whether a threshold must lie above a membrane at rest.
        arithmetic: how its rounding differs from the plain form; see `psu_deploy.verify.Arithmetic`.
    """

    name: str
    title: str
    versions: dict[str, str]
    dialect: str
    ties: str | None
    depth_first: bool
    convolutions: bool
    conv1d: bool
    avg_pool: bool
    images: bool
    flatten: bool
    integrator: bool
    memoryless_lif: bool
    cycles: bool
    positive_thresholds: bool
    arithmetic: Arithmetic


CANONICAL = NirTarget(
    name="canonical",
    title="the NIR specification (forward Euler), run by psu_deploy's own executor",
    versions={"nir": ">=1.0.8", "nirtorch": ">=2.6"},
    dialect="canonical",
    ties=">",
    depth_first=False,
    convolutions=True,
    conv1d=True,
    avg_pool=True,
    images=True,
    flatten=True,
    integrator=True,
    memoryless_lif=True,
    cycles=True,
    positive_thresholds=False,
    arithmetic=Arithmetic(reset_by_difference=True),
)

_EULER = Arithmetic(reset_by_difference=True, remembers_margin=True)

NORSE = NirTarget(
    name="norse",
    title="norse",
    versions={"norse": ">=1.1.0,<1.2"},
    dialect="affine",
    ties=">",
    depth_first=True,
    convolutions=True,
    conv1d=False,
    avg_pool=False,
    images=True,
    flatten=False,
    integrator=False,
    memoryless_lif=True,
    cycles=True,
    positive_thresholds=False,
    arithmetic=_EULER,
)

SNNTORCH = replace(
    NORSE,
    name="snntorch",
    title="snntorch",
    versions={"snntorch": ">=1.0.0,<1.1", "nirtorch": ">=2.6"},
    depth_first=False,
    conv1d=True,
    avg_pool=True,
    positive_thresholds=True,
)

SPIKINGJELLY = replace(
    SNNTORCH,
    name="spikingjelly",
    title="SpikingJelly",
    versions={"spikingjelly": ">=2.0.0,<2.1", "nirtorch": ">=2.6"},
    ties=">=",
    integrator=True,
    memoryless_lif=False,
    positive_thresholds=False,
)

PORTABLE = replace(
    NORSE,
    name="portable",
    title="the portable set (norse, snntorch, SpikingJelly)",
    versions={**NORSE.versions, **SNNTORCH.versions, **SPIKINGJELLY.versions},
    ties=None,
    memoryless_lif=False,
    positive_thresholds=True,
)
"""The intersection. Thresholds are moved by one float, so that a potential of exactly V_th is decided alike by all."""

SINABS = NirTarget(
    name="sinabs",
    title="sinabs",
    versions={"sinabs": ">=2.0.3,<2.1", "nir": ">=1.0.8"},
    dialect="sinabs",
    ties=">=",
    depth_first=True,
    convolutions=True,
    conv1d=True,
    avg_pool=False,
    images=False,
    flatten=True,
    integrator=False,
    memoryless_lif=False,
    cycles=False,
    positive_thresholds=True,
    arithmetic=_EULER,
)

ROCKPOOL = replace(
    SINABS,
    name="rockpool",
    title="rockpool",
    versions={"rockpool": ">=3.1.0,<3.2"},
    dialect="rockpool",
    convolutions=False,
    conv1d=False,
)

TARGETS: dict[str, NirTarget] = {
    target.name: target for target in (CANONICAL, PORTABLE, NORSE, SNNTORCH, SPIKINGJELLY, SINABS, ROCKPOOL)
}
"""Name -> dialect."""


def target_named(name: str | None) -> NirTarget:
    """The dialect of that name; None = canonical.

    Raises:
        InputError: if there is no such dialect.
    """
    if name is None:
        return CANONICAL
    if name not in TARGETS:
        raise InputError(f"simulator must be one of {', '.join(TARGETS)}, got {name!r}")
    return TARGETS[name]


NIR = Target(
    name="nir",
    title="NIR",
    suffix=SUFFIX,
    export="psu_deploy.exporters.nir.export:export",
    load="psu_deploy.exporters.nir.runner:load",
    extra="nir",
    needs=("nir", "nirtorch", "h5py"),
    packages={"nir": "nir", "nirtorch": "nirtorch", "norse": "norse", "h5py": "h5py", "scipy": "scipy"},
    options=(
        Option(
            "simulator",
            ("export",),
            "portable (norse, snntorch, SpikingJelly), norse, snntorch, spikingjelly, sinabs, rockpool.",
            shown=("written for", "the NIR specification; for a simulator, add --simulator"),
            suggested=PORTABLE.name,
            at_verify={PORTABLE.name: NORSE.name},
        ),
        Option("allow_approximation", ("export",), "sigmoids may become staircases without fine-tuning.", bool),
        Option(
            "calibration",
            ("export",),
            "with --allow-approximation, typical input (T, B, ...) as .npy; default: a run folder's test data.",
            np.ndarray,
            also=("--calibrate",),
            only_with="allow_approximation",
            purpose="measures an approximation",
            from_run=True,
        ),
        Option(
            "max_flip_rate",
            ("export",),
            "share of spikes that may differ on it.",
            float,
            default=0.001,
            only_with="allow_approximation",
            purpose="limits an approximation",
        ),
        Option("simulator", ("run", "verify"), "what runs it: norse, snntorch, spikingjelly, sinabs, rockpool."),
    ),
    prepare="psu_deploy.preparation.nir:NIR",
)
