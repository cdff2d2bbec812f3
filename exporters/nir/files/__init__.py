"""NIR files, read strictly: nothing is guessed, nothing hangs, nothing in a file is executed.

walk.py and hdf5.py read the bytes, nodes.py knows what every type of node holds, structure.py the edges, shapes.py what
fits.
"""

from psu_deploy.exporters.nir.files.metadata import read_metadata
from psu_deploy.exporters.nir.files.read import check_graph, read_graph
from psu_deploy.exporters.nir.files.structure import Flat, flatten

__all__ = ["Flat", "check_graph", "flatten", "read_graph", "read_metadata"]
