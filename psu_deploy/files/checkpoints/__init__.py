"""Files of `torch.save`, read without running anything in them, and measured before they are believed.

claims.py walks the pickle and builds nothing of it, archive.py knows the zip around it, read.py puts both in front of
`torch.load`.
"""

from psu_deploy.files.checkpoints.claims import DamagedError, ForeignObjectError
from psu_deploy.files.checkpoints.read import read

__all__ = ["DamagedError", "ForeignObjectError", "read"]
