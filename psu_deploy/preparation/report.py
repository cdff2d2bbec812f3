"""What was replaced in a network, and how far it is from what it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from psu_deploy.text import columns


class Column(NamedTuple):
    """Of the table that a report is.

    Attributes:
        title: on top.
        attribute: of a layer, an error.
        format: of it.
    """

    title: str
    attribute: str
    format: str


@dataclass(frozen=True)
class PreparedLayer:
    """What was replaced in one layer.

    Args:
        path: where it is, as the module's path inside the model; "(root)" is the model itself.
        replaced: one sentence for every part, such as "estimate: CausalMatrix(8) -> Exponentials(4)".
        staircase_error: the largest distance of the staircase to the sigmoid; None where none was put in.
        fit_error: distance of the exponentials to the matrix they stand for, relative, as Frobenius norms; the largest
            where there are several; None where there is none.
        bias_error: the largest distance of the constant bias to the bias of a step; None where there is none.
        table_error: the largest distance of the table to the sigmoid; None where none was put in.
        weight_error: the largest distance of a rounded weight to the weight, as a share of the largest weight of the
            layer; None where none was rounded.
    """

    path: str
    replaced: tuple[str, ...]
    staircase_error: float | None = None
    fit_error: float | None = None
    bias_error: float | None = None
    table_error: float | None = None
    weight_error: float | None = None


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` replaced, one row per layer that changed. Printed, it is a table.

    Args:
        target: what the model was prepared for.
        layers: in the order of the model.
        columns: the errors that the table shows.
    """

    target: str
    layers: tuple[PreparedLayer, ...]
    columns: tuple[Column, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        if not self.layers:
            return f"ready for {self.target}: nothing had to change"
        rows = [("path", *(column.title for column in self.columns), "replaced"), *map(self._row, self.layers)]
        lines = (f"  {line}" for line in columns(rows, left=len(rows[0])))
        title = f"prepared for {self.target}: {len(self.layers)} layer(s) changed"
        return "\n".join([title, *lines, "fine-tune before you export"])

    def _row(self, layer: PreparedLayer) -> tuple[str, ...]:
        errors = ((getattr(layer, column.attribute), column.format) for column in self.columns)
        cells = ("-" if error is None else text.format(error) for error, text in errors)
        return layer.path, *cells, "; ".join(layer.replaced)
