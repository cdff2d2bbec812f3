"""NIR: graphs that real simulators load and that spike the same."""

from psu_deploy.exporters.nir.export import export
from psu_deploy.exporters.nir.runner import NirRunner, load

__all__ = ["NirRunner", "export", "load"]
