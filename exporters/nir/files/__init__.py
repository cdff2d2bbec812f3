"""NIR files, read strictly: nothing is guessed, nothing hangs, nothing in a file is executed.

read.py makes the graph, nodes.py knows what every type of node holds, structure.py the edges, shapes.py what
fits.
"""

from psu_deploy.exporters.nir.files.metadata import read_metadata
from psu_deploy.exporters.nir.files.read import GROUP, check_graph, read_graph
from psu_deploy.exporters.nir.files.structure import Flat, flatten

__all__ = ["GROUP", "Flat", "check_graph", "flatten", "read_graph", "read_metadata"]
