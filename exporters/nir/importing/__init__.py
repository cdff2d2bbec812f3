"""NIR graph -> state machine.

load.py is the way in, cycles.py finds the leaks that are written as cycles, order.py sorts the nodes, layers.py and
neurons.py convert them, parameters.py looks at their parameters.

The files of `norse.torch.to_nir` and `snntorch.export_nir.export_to_nir` say nothing about their time step: see `load`.
"""

from psu_deploy.exporters.nir.importing.load import load

__all__ = ["load"]
