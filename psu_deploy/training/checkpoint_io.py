"""How Lightning's checkpoints reach the disk. It would write them to the system's temporary folder and move them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psu_deploy.training import weights
from psu_deploy.training.quiet import quiet_import

with quiet_import():
    from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints are written beside their final name, so that the one before is there until the new one is."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            checkpoint: what Lightning wants to keep.
            path: the file.
            storage_options: Lightning's, of other places than the disk; there are none here.

        Raises:
            ArtifactError: if it cannot be written.
        """
        weights.save_checkpoint(checkpoint, Path(path))
