"""Artifacts and the runners that execute them."""

from psu_deploy.runtime.artifact import Artifact, Fidelity
from psu_deploy.runtime.runner import Runner
from psu_deploy.runtime.structure import Structure

__all__ = ["Artifact", "Fidelity", "Runner", "Structure"]
