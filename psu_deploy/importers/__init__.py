"""Other people's files -> ours: checkpoints, NIR."""

from psu_deploy.importers import nir, official

__all__ = ["nir", "official"]
