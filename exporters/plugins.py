"""Targets of other packages, found by their entry points. One that does not load is told, and is in nobody's way."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from psu_deploy.exporters.target import Target

GROUP = "psu_deploy.exporters"
"""Of the entry points: `name = "their_package:TARGET"`, a `Target` called `name`."""


class Plugins(NamedTuple):
    """What was found.

    Attributes:
        targets: name -> target.
        broken: name -> what is wrong with it, in a sentence.
    """

    targets: dict[str, Target]
    broken: dict[str, str]


def find_plugins(ours: Mapping[str, Target]) -> Plugins:
    """Load every plugin; what is ours already is not theirs to change."""
    found = Plugins({}, {})
    for point in entry_points(group=GROUP):
        try:
            target = _load(point, {**ours, **found.targets})
        except Exception as error:  # noqa: BLE001  whatever somebody's module dies of, the other targets work
            reason = str(error) if isinstance(error, _NotATarget) else f"{type(error).__name__}: {error}"
            found.broken[point.name] = (
                f"the plugin {point.name!r} ({point.value}) cannot be used: {reason}; mend it or uninstall it"
            )
        else:
            found.targets[target.name] = target
    return found


class _NotATarget(Exception):  # noqa: N818  a reason, to become part of a sentence
    pass


def _load(point: EntryPoint, known: Mapping[str, Target]) -> Target:
    target = point.load()
    if not isinstance(target, Target):
        raise _NotATarget(f"it is no psu_deploy.exporters.Target, but a {type(target).__name__}")
    if target.name != point.name:
        raise _NotATarget(f"its target is called {target.name!r}")
    if target.name in known:
        raise _NotATarget("there is a target of that name already")
    if target.suffix in {one.suffix for one in known.values()}:
        raise _NotATarget(f"another target writes {target.suffix} files already")
    return target
