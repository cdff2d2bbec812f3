"""What happens in every epoch, as a table: losses, accuracy, learning rate, and how often each layer fires."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from psu_deploy.nn.neurons.base import Neuron

RATE = "rate/"
"""What the column of a layer's firing rate begins with."""

Row = dict[str, float]


class FiringRates:
    """The mean share of steps at which the neurons of each layer fire, over the forward passes since `start`.

    Args:
        network: whose layers of neurons are watched.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
        self._hooks: list[RemovableHandle] = []
        self._sums: dict[str, Tensor] = {}
        self._passes = 0

    def start(self) -> None:
        """Begin anew."""
        self._sums, self._passes = {}, 0
        self._hooks = [layer.register_forward_hook(self._adder(name)) for name, layer in self._layers.items()]

    def stop(self) -> Row:
        """End, and say what was seen: name of the layer -> spikes per step and neuron."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        return {name: float(total) / self._passes for name, total in self._sums.items() if self._passes}

    def _adder(self, name: str) -> Any:
        first = name == next(iter(self._layers))

        def add(_module: nn.Module, _inputs: Any, spikes: Tensor) -> None:
            self._passes += first
            rate = spikes.detach().float().mean()  # stays where it is: a GPU would be waited for
            self._sums[name] = self._sums[name] + rate if name in self._sums else rate

        return add


def table(rows: Sequence[Row]) -> str:
    """Rows as CSV; a column for every name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_table(path: Path) -> list[Row]:
    """What `table` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
