"""What `verify` answers: its findings, in a sentence, as a table, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psu_deploy.files.atomic import write_whole
from psu_deploy.verify.findings import Findings
from psu_deploy.verify.rendering import as_data, as_text
from psu_deploy.verify.verdict import verdict_of


@dataclass(frozen=True)
class EquivalenceReport(Findings):
    """What `verify` found.

    `ok` is true if nothing is missing or NaN, every output is within its rounding bound, every flip goes back to a
    knife-edge decision, one whose margin is smaller than the rounding error, and the artifact holds the very numbers
    that exporting the network writes. Flips are always counted and shown. Where an artifact computes with rounded
    numbers, what that changed is measured, and what is proven is that they are those of the export, and that its engine
    repeats their exact definition.

    Nothing is proven, and `ok` is false, where no neuron fired at all, or where rounding bounds leave decisions open.

    >>> import torch
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(torch.nn.Linear(8, 32), psu.PSU(threshold=0.1))
    >>> report = psu.verify(model, psu.to_state_machine(model, (8,)), torch.ones(20, 4, 8))
    >>> report.ok, report.spikes_compared
    (True, 2560)
    >>> report.verdict
    'EQUIVALENT: 2,560 spikes compared, 0 flips'
    """

    @property
    def verdict(self) -> str:
        """One sentence."""
        return verdict_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return as_data(self)

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON, whole or not at all."""
        write_whole(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())
        return Path(path)

    def __str__(self) -> str:
        return as_text(self)
