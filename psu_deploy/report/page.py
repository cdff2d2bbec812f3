"""The page: everything put together, escaped, written whole or not at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psu_deploy.errors import require
from psu_deploy.files.atomic import write_whole
from psu_deploy.report.conclusion import conclusion
from psu_deploy.report.diagram import diagram, shape_of
from psu_deploy.report.evidence import Evidence
from psu_deploy.report.pictures import pictures
from psu_deploy.report.provenance import provenance
from psu_deploy.report.tables import first_divergence, glance, layers, operations_of, rounding
from psu_deploy.report.words import called, multiple, percent, several
from psu_deploy.text import visible
from psu_deploy.verify import EquivalenceReport

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST = 2000
"""Characters of a sentence."""


def write_report(path: str | Path, report: EquivalenceReport, evidence: Evidence, *, command: str = "") -> Path:
    """Write a verification as one page for people: the verdict, why, and pictures of it.

    The file needs no network and no JavaScript, is light and dark as its reader likes, and can be printed. The same
    verification gives the same page.

    Args:
        path: file to write, `report.html`.
        report: what `verify` answered.
        evidence: that was handed to it.
        command: that repeats the verification; "" = a call in Python is shown.

    Returns:
        The path.

    Raises:
        InputError: if the evidence has seen no verification.
        ArtifactError: if the file cannot be written.
        MissingExtraError: if jinja2 or matplotlib is not installed; `psu-deploy[report]` brings them.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.PSU(threshold=0.1))
    >>> machine, evidence = psu.to_state_machine(model, input_shape=(3,)), psu.Evidence()
    >>> report = psu.verify(model, machine, torch.ones(5, 2, 3), allow_silent=True, evidence=evidence)
    >>> with TemporaryDirectory() as folder:
    ...     psu.write_report(f"{folder}/report.html", report, evidence).name
    'report.html'
    """
    write_whole(path, page(report, evidence, command=command).encode())
    return Path(path)


def page(report: EquivalenceReport, evidence: Evidence, *, command: str = "") -> str:
    """The same page as text; see `write_report`."""
    collected = evidence.collected
    return _environment().get_template("page.html.j2").render(
        conclusion=conclusion(report, collected),
        diagram=diagram(collected.machine),
        glance=glance(collected),
        layers=layers(report, collected),
        pictures=pictures(collected),
        divergence=first_divergence(collected),
        rounding=rounding(report),
        notes=report.notes,
        operations=operations_of(collected),
        provenance=provenance(collected, command),
        judged=called(collected.judged),
    )  # fmt: skip


def check_installed() -> None:
    """Raise `MissingExtraError` unless a page can be written here."""
    require("jinja2", "report")
    require("matplotlib", "report")


@cache
def _environment() -> Environment:
    jinja2 = require("jinja2", "report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "runs": tuple,
        "several": several,
        "count": lambda value: f"{value:,}",
        "number": lambda value: "–" if value is None else f"{value:.3g}",  # noqa: RUF001  a dash in an empty cell
        "precise": lambda value: "–" if value is None else f"{value:.9g}",  # noqa: RUF001  enough to tell any two float32
        "share": lambda margins: percent(margins.certified, margins.decisions),
        "multiple": multiple,
        "called": called,
        "shape": shape_of,
    }
    return environment


def _shown(value: Any) -> Any:
    """What a person would not see, or would see turned around, is spelt out, whoever wrote it."""
    return visible(value, _LONGEST) if type(value) is str else value
