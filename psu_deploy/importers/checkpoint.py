"""Reads a checkpoint file without running anything in it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psu_deploy.errors import ArtifactError
from psu_deploy.files import checkpoints
from psu_deploy.files.limits import NUMBER, check_memory

WRAPPERS = ("state_dict", "net", "model")
"""Keys under which the parameters lie: timm, and the scripts of the PSN authors."""

EMA = "state_dict_ema"

_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
"""What a parameter or a buffer may be."""

_WRAPPED = ("module.", "model.")

_LONGEST = 200
_PLAIN = bool | int | float | str | None
"""What an argument of a script may be; a container could be larger than anybody can print."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says.

    Attributes:
        path: the file.
        tensors: key -> tensor, floating point ones in float32; what wrappers add to the keys is gone, see `bare`.
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
        _plain(args) if isinstance(args, Mapping) else {},
        epoch if isinstance(epoch, int) else None,
    )


def _plain(args: Mapping[Any, Any]) -> dict[str, Any]:
    """Arguments of a script; of what is no number and no text, the kind alone."""
    return {
        str(key)[:_LONGEST]: value if isinstance(value, _PLAIN) else f"<{type(value).__name__}>"
        for key, value in args.items()
        if isinstance(key, _PLAIN)
    }


def _load(source: Path) -> Any:
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    try:
        return checkpoints.read(source)[0]
    except checkpoints.ForeignObjectError as error:
        raise ArtifactError(
            f"{source} holds something else than tensors, plain values and argparse.Namespace ({error}); nothing in it "
            "was executed. Where you trained it, save what is needed alone: "
            "torch.save({'state_dict': model.state_dict(), 'args': args}, file)"
        ) from error
    except checkpoints.DamagedError as error:
        raise ArtifactError(f"{source} is damaged or was not written by torch.save: {error}") from error


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
    tensors: dict[str, Tensor] = {bare(key): value.detach() for key, value in parameters.items()}
    if len(tensors) < len(parameters):
        raise ArtifactError(f"{source} has the same parameter twice, with and without the prefix of a wrapper")
    for key, value in tensors.items():
        _check_plain(source, key, value)
    numbers = sum(value.numel() for value in tensors.values())  # one tensor may have many names, each becomes a copy
    check_memory(NUMBER * numbers, source.stat().st_size, f"{source}: its {len(tensors)} tensors, {numbers} numbers,")
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtifactError(f"{source}: {key} holds NaN or infinity")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def _check_plain(source: Path, key: str, value: Tensor) -> None:
    """Raise unless a tensor is an ordinary one: numbers that lie in the file."""
    plain = value.layout is torch.strided and value.dtype in _DTYPES and value.device.type == "cpu"
    if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ArtifactError(
            f"{source}: {key} is sparse, quantised, complex or expanded, or has no numbers (meta); it is {value.dtype} "
            f"on {value.device}, expected a plain tensor of {', '.join(str(d).removeprefix('torch.') for d in _DTYPES)}"
        )


def bare(key: str) -> str:
    """A key without what wrappers add to it.

    `module.` in front is DataParallel's, `model.` that of a LightningModule, `_orig_mod.` anywhere that of
    `torch.compile`. A `module.` further behind is a layer's own.

    >>> bare("module._orig_mod.conv.0.weight"), bare("conv.0._orig_mod.weight"), bare("features.0.fwd.module.0.bias")
    ('conv.0.weight', 'conv.0.weight', 'features.0.fwd.module.0.bias')
    """
    key = key.replace("_orig_mod.", "")
    while key.startswith(_WRAPPED):
        key = key.partition(".")[2]
    return key
