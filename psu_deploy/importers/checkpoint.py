"""Reads a checkpoint file without running anything in it."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psu_deploy.errors import ArtifactError

WRAPPERS = ("state_dict", "net", "model")
"""Keys under which the parameters lie: timm, and the scripts of the PSN authors."""

EMA = "state_dict_ema"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says.

    Attributes:
        path: the file.
        tensors: key -> tensor, floating point ones in float32; a `module.` in front of every key is gone.
        args: the arguments the training script was called with; empty if the file has none.
        epoch: the epoch it was saved in, if it says so.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    args: Mapping[str, Any] = field(default_factory=dict)
    epoch: int | None = None


def read_checkpoint(path: str | Path, *, ema: bool = False) -> Checkpoint:
    """Read a checkpoint. Tensors, plain containers and `argparse.Namespace` are read; anything else is refused unread.

    Args:
        path: what `torch.save` wrote.
        ema: take the moving average of the weights instead of the weights, where the file has both.

    Raises:
        ArtifactError: if the file is missing, damaged, holds any other object, or no parameters.
    """
    source = Path(path)
    content = _load(source)
    if not isinstance(content, Mapping):
        raise ArtifactError(f"{source} holds a {type(content).__name__}, not a dictionary of parameters")
    args = content.get("args", {})
    args = vars(args) if isinstance(args, argparse.Namespace) else args
    epoch = content.get("epoch")
    return Checkpoint(
        source,
        _tensors(source, _parameters(source, content, ema)),
        args if isinstance(args, Mapping) else {},
        epoch if isinstance(epoch, int) else None,
    )


def _load(source: Path) -> Any:
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # what is not readable is refused below
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|instance of|class|function|type) ['\"<]*([\w.]+)", str(error))
        what = f" ({found.group(1)})" if found else ""
        raise ArtifactError(
            f"{source} holds something else than tensors, plain values and argparse.Namespace{what}; nothing in it was "
            "executed. Where you trained it, save what is needed alone: "
            "torch.save({'state_dict': model.state_dict(), 'args': args}, file)"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtifactError(f"{source} is damaged or was not written by torch.save: {reason}") from error


def _parameters(source: Path, content: Mapping[str, Any], ema: bool) -> Mapping[str, Any]:
    if ema and EMA not in content:
        raise ArtifactError(f"{source} has no {EMA!r}: it was trained without a moving average of the weights")
    wrappers = [EMA] if ema else [*WRAPPERS, EMA]
    for key in wrappers:
        if isinstance(content.get(key), Mapping):
            inside: Mapping[str, Any] = content[key]
            return inside
    return content


def _tensors(source: Path, parameters: Mapping[str, Any]) -> dict[str, Tensor]:
    strange = [
        str(key) for key, value in parameters.items() if not isinstance(value, Tensor) or not isinstance(key, str)
    ]
    if strange or not parameters:
        raise ArtifactError(
            f"{source} holds no parameters: expected tensors, or a dictionary of them under one of "
            f"{', '.join((*WRAPPERS, EMA))}; found {', '.join(strange[:8]) or 'nothing'}"
        )
    tensors = {_bare(parameters, key): value.detach() for key, value in parameters.items()}
    for key, value in tensors.items():
        _check_plain(source, key, value)
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def _check_plain(source: Path, key: str, value: Tensor) -> None:
    """Raise unless a tensor is an ordinary one: numbers that lie in the file, and are finite."""
    plain = value.layout is torch.strided and not value.is_quantized and not value.is_complex()
    if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ArtifactError(f"{source}: {key} is sparse, quantised, complex or expanded; expected a plain tensor")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ArtifactError(f"{source}: {key} holds NaN or infinity")


def _bare(parameters: Mapping[str, Any], key: str) -> str:
    """Without the `module.` that a data-parallel wrapper puts in front."""
    bare = key.removeprefix("module.")
    return key if bare in parameters else bare
