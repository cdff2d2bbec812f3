"""Neuron layers: torch modules, parallel in time. What a family names in its `__all__` is a name of this package."""

from psu_deploy.nn.neurons.base import *
from psu_deploy.nn.neurons.estimators import *
from psu_deploy.nn.neurons.lif import *
from psu_deploy.nn.neurons.psn import *
from psu_deploy.nn.neurons.psu import *
from psu_deploy.nn.neurons.spsn import *
from psu_deploy.nn.neurons.surrogate import *
