"""Modules of simulators that we do not read as they are, but whose networks come in by way of NIR.

The simulators are never imported here: their classes are known by the package they are from.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from psu_deploy.errors import Refusal


@dataclass(frozen=True)
class _Simulator:
    """How a network leaves it.

    Args:
        graph: the call that makes its NIR graph.
        dt: what `psu-deploy import` must be told, because the file does not say it.
        exact: for what the graph holds what the network does; `importers.nir.load` has the rest.
    """

    graph: str
    dt: str
    exact: str


_SIMULATORS = {
    "snntorch": _Simulator(
        "snntorch.export_nir.export_to_nir(net, x, ignore_dims=[0])", "--dt 1e-4", 'neurons with reset_mechanism="zero"'
    ),
    "norse": _Simulator(
        "norse.torch.to_nir(net, x, dt=1.0)", "--dt 1e-3 (or the dt you gave its cells)", "LIFBoxCell and LIBoxCell"
    ),
}
"""By package."""


def foreign(module: nn.Module) -> Refusal | None:
    """Why a module of another simulator is refused, and the way that works; None for any other module.

    A subclass of such a module is one too: what it inherits keeps a state that a forward over all steps does not show.
    """
    for kind in type(module).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in _SIMULATORS:
            return _refusal(package, _SIMULATORS[package])
    return None


def _refusal(package: str, simulator: _Simulator) -> Refusal:
    return Refusal(
        f"a module of {package}, which runs one step and keeps its state beside its forward",
        f'export the whole network to NIR, nir.write("net.nir", {simulator.graph}, compression=None), then '
        f"psu-deploy import net.nir --out net.psm {simulator.dt}; exact for {simulator.exact}, "
        "help(psu_deploy.importers.nir.load) has the others",
    )
