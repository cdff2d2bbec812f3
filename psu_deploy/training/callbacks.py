"""What Lightning calls while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from psu_deploy.files.atomic import write_whole
from psu_deploy.training.journal import RATE, FiringRates, Row, table
from psu_deploy.training.quiet import quiet_import

with quiet_import():
    import lightning.pytorch as pl


class Journal(pl.Callback):
    """Writes `log.csv` after every epoch, whole or not at all; a resumed run goes on with the rows it has.

    Columns: epoch, train_loss, val_loss, val_accuracy, learning_rate, and `rate/<layer>` for every layer of neurons,
    measured on the training batches: the mean over all processes.

    Args:
        path: of the table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._row: Row = {}
        self._rates: FiringRates | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.model
        assert isinstance(network, nn.Module)
        self._rates = FiringRates(network)
        self._rates.start()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._rates is not None:
            for name, rate in self._rates.stop().items():
                own = torch.tensor(rate, dtype=torch.float64, device=pl_module.device)
                self._row[RATE + name] = float(trainer.strategy.reduce(own))
            self._rates = None
            for name, rate in self._row.items():
                pl_module.log(name, rate)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seen = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith(RATE)}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append({"epoch": trainer.current_epoch, **seen, "learning_rate": rate, **self._row})
        if trainer.is_global_zero:
            write_whole(self.path, table(self.rows).encode())

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._rates is not None:
            self._rates.stop()
