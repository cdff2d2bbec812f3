"""psu-deploy doctor."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import typer

from psu_deploy.cli.console import say, table
from psu_deploy.errors import PsuDeployError
from psu_deploy.exporters import all_targets, installed_plugins, named

_OURS = {"torch": "torch", "numpy": "numpy", "safetensors": "safetensors"}
_TRAINING = {"lightning": "lightning", "scikit-learn": "sklearn"}
_PAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib"}
"""Package -> module to import; what targets need, they say themselves."""


def doctor() -> None:
    """Say what is installed, what works here, and what to do about the rest. Exit code 1 if something is broken.

    Example: psu-deploy doctor
    """
    import torch

    say(f"Python {platform.python_version()} on {platform.platform()}, CUDA {torch.cuda.is_available()}")
    rows = [(name, extra, *_state(name, module, extra)) for name, (module, extra) in _packages().items()]
    table("packages", ("package", "extra", "version", "state"), rows)
    broken = installed_plugins().broken.values()
    for sentence in (*_checks(), *broken):
        say(sentence)
    if broken or any(row[3].startswith("broken") for row in rows):
        raise typer.Exit(1)


def _packages() -> dict[str, tuple[str, str]]:
    """Package -> (module to import, extra that brings it; "-": the package of a plugin does)."""
    found = {name: (module, "core") for name, module in _OURS.items()}
    for target in all_targets().values():
        for name, module in target.packages.items():
            found.setdefault(name, (module, target.extra or "-"))
    found |= {name: (module, "train") for name, module in _TRAINING.items()}
    return found | {name: (module, "report") for name, module in _PAGES.items()}


def _checks() -> Iterator[str]:
    """One sentence about everything that a target looks at and that is no package."""
    for target in all_targets().values():
        for check in target.checks:
            try:
                yield f"{target.title}: {named(check)()}"
            except PsuDeployError as error:
                yield f"{target.title}: {error}"


def _state(package: str, module: str, extra: str) -> tuple[str, str]:
    try:
        installed = version(package)
    except PackageNotFoundError:
        return "-", "missing" if extra == "-" else f'missing: pip install "psu-deploy[{extra}]"'
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
