"""Checkpoints of other people's code -> our networks."""

from psu_deploy.importers import official

__all__ = ["official"]
