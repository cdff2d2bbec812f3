"""psu-deploy doctor."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from psu_deploy.cli.console import say, table
from psu_deploy.errors import PsuDeployError

_PACKAGES = {
    "torch": ("torch", "core"),
    "numpy": ("numpy", "core"),
    "safetensors": ("safetensors", "core"),
    "onnx": ("onnx", "onnx"),
    "onnx-ir": ("onnx_ir", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "nir": ("nir", "nir"),
    "nirtorch": ("nirtorch", "nir"),
    "norse": ("norse", "nir"),
    "h5py": ("h5py", "lava"),
    "scipy": ("scipy", "nir"),
    "lightning": ("lightning", "train"),
    "scikit-learn": ("sklearn", "train"),
}
"""Package -> (module to import, extra that brings it)."""


def doctor() -> None:
    """Say what is installed, what works here, and what to do about the rest. Exit code 1 if something is broken.

    Example: psu-deploy doctor
    """
    import torch

    say(f"Python {platform.python_version()} on {platform.platform()}, CUDA {torch.cuda.is_available()}")
    rows = [(name, extra, *_state(name, module, extra)) for name, (module, extra) in _PACKAGES.items()]
    table("packages", ("package", "extra", "version", "state"), rows)
    say(_lava())
    if any(row[3].startswith("broken") for row in rows):
        raise typer.Exit(1)


def _lava() -> str:
    """One sentence about the interpreter that Lava runs in."""
    from psu_deploy.exporters.lava.environment import find

    try:
        found = find()
    except PsuDeployError as error:
        return f"Lava: {error}"
    return f"Lava: ok, {found.python} ({found.origin})"


def _state(package: str, module: str, extra: str) -> tuple[str, str]:
    try:
        installed = version(package)
    except PackageNotFoundError:
        return "-", f'missing: pip install "psu-deploy[{extra}]"'
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001  whatever an import dies of is what the doctor reports
        return installed, f"broken: {type(error).__name__}: {error}{_remedy(error)}"
    return installed, "ok"


def _remedy(error: Exception) -> str:
    """What to do about what is known to go wrong."""
    if "torchvision" in str(error):
        return "; torchvision does not fit this torch: install both from one index, or pip uninstall torchvision"
    return ""
