"""Lava: HDF5 in lava-dl's netx dialect, Loihi-2-style fixed point, run in Lava's CPU simulator."""

from psu_deploy.exporters.lava.export import export
from psu_deploy.exporters.lava.runner import LavaRunner, load

__all__ = ["LavaRunner", "export", "load"]
