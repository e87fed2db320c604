"""The training history, one row per epoch, part of every checkpoint."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

Row = dict[str, float]
"""The logged metrics of one epoch, and its number."""


class History(Checkpoint):
    """Collects the logged metrics; it lives in the checkpoint, so a resumed training keeps its past.

    A ``Checkpoint`` because Lightning calls those after the module's own end of the epoch, when all is logged.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, **dict(sorted(values.items()))})

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
