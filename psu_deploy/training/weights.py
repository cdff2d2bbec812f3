"""A network's weights on disk: safetensors for a finished run, a torch checkpoint for one that goes on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from psu_deploy.errors import ArtifactError
from psu_deploy.files import checkpoints
from psu_deploy.files.atomic import write_whole
from psu_deploy.files.limits import NUMBER, check_memory, regular_size

_CHECKPOINT_KEYS = {"epoch", "state_dict", "optimizer_states", "lr_schedulers"}
_MOST_EPOCHS = 10**9


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and buffers to a safetensors file, whole or not at all."""
    write_whole(path, to_bytes({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()  # torch.save itself says a full disk in its own way
    torch.save(checkpoint, buffer)
    write_whole(path, buffer.getvalue())


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read parameters and buffers from a safetensors file; anything else is an `ArtifactError`."""
    regular_size(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} is truncated or is not a safetensors file: {error}") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that is in it; anything else is an `ArtifactError`."""
    try:
        checkpoint, claims = checkpoints.read(path)
    except (checkpoints.ForeignObjectError, checkpoints.DamagedError) as error:
        raise ArtifactError(f"{path} is truncated or is not a checkpoint: {error}") from error
    if claims.expanded:
        raise ArtifactError(
            f"{path} is not the checkpoint of a run: a tensor in it claims more numbers than the file has"
        )
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _CHECKPOINT_KEYS:
        raise ArtifactError(f"{path} is not the checkpoint of a run: expected the keys {sorted(_CHECKPOINT_KEYS)}")
    _check_contents(path, checkpoint)
    return checkpoint


def _check_contents(path: Path, checkpoint: dict[str, Any]) -> None:
    """Raise unless the network's part of a checkpoint is what a run writes, and fits into memory."""
    epoch, state = checkpoint["epoch"], checkpoint["state_dict"]
    named = isinstance(state, dict) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items())
    if not named or type(epoch) is not int or not 0 <= epoch < _MOST_EPOCHS:
        raise ArtifactError(f"{path} is not the checkpoint of a run: expected an epoch, and tensors in its state_dict")
    numbers = sum(value.numel() for value in state.values())  # one tensor may have many names, each becomes a copy
    check_memory(NUMBER * numbers, path.stat().st_size, f"{path}: its {len(state)} tensors, {numbers} numbers,")


def fill(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Put weights into a network: every name, shape and dtype must be right.

    Raises:
        ArtifactError: if they are those of another network.
    """
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & weights.keys() if not _alike(weights[name], expected[name]))
    if missing or unknown or wrong:
        raise ArtifactError(
            f"{source} does not fit its recipe: missing {missing}, unknown {unknown}, of another shape or dtype {wrong}"
        )
    model.load_state_dict(weights)


def _alike(value: Tensor, expected: Tensor) -> bool:
    return value.shape == expected.shape and value.dtype == expected.dtype
