"""Other people's files -> ours: checkpoints, NIR.

>>> import psu_deploy as psu
>>> psu.importers.official.load("nothing.pth")
Traceback (most recent call last):
    ...
psu_deploy.errors.ArtifactError: nothing.pth does not exist or is not a file
"""

from psu_deploy.importers import nir, official

__all__ = ["nir", "official"]
