"""Files of `torch.save`, read without running anything in them, and measured before they are believed.

claims.py walks the pickle and builds nothing of it, archive.py knows the zip around it, read.py puts both in front of
`torch.load`.
"""

from psu_deploy.torch_files.claims import DamagedError, ForeignObjectError
from psu_deploy.torch_files.read import read

__all__ = ["DamagedError", "ForeignObjectError", "read"]
