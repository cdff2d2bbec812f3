"""Everything a state machine is made of: one file per family of layers, causal operators and estimators.

A new op is a class under `@op` in the file of its family, which says all that it is; its name in `__all__` there makes
it a name of this package.
"""

from psu_deploy.machine.ops.along_time import *
from psu_deploy.machine.ops.arithmetic import *
from psu_deploy.machine.ops.convolution import *
from psu_deploy.machine.ops.elementary import *
from psu_deploy.machine.ops.estimators import *
from psu_deploy.machine.ops.layer import Layer as Layer
from psu_deploy.machine.ops.layer_norm import *
from psu_deploy.machine.ops.linear import *
from psu_deploy.machine.ops.neurons import *
from psu_deploy.machine.ops.normalisation import *
from psu_deploy.machine.ops.operators import *
from psu_deploy.machine.ops.outputs import *
from psu_deploy.machine.ops.pointwise import *
from psu_deploy.machine.ops.pooling import *
from psu_deploy.machine.ops.ranking import *
from psu_deploy.machine.ops.readouts import *
from psu_deploy.machine.ops.rectifiers import *
from psu_deploy.machine.ops.reduction import *
from psu_deploy.machine.ops.registry import KINDS as KINDS
from psu_deploy.machine.ops.registry import op as op
from psu_deploy.machine.ops.shape import *
from psu_deploy.machine.ops.sliding import Padding as Padding
from psu_deploy.machine.ops.softmax import *
