"""Everything a state machine is made of: one file per family of layers, causal operators and estimators."""

from psu_deploy.machine.ops.affine import ChannelAffine, Linear
from psu_deploy.machine.ops.along_time import Delay, Filter, Hold, Readout, TimeConv, Wait
from psu_deploy.machine.ops.convolution import Conv1d, Conv2d
from psu_deploy.machine.ops.estimators import Estimator, RawCurrent, Sigmoid, SigmoidTable, Staircase
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.neurons import BernoulliNeuron, LIFNeuron, Neuron, SpikingNeuron
from psu_deploy.machine.ops.operators import (
    CausalOperator,
    Exponentials,
    Identity,
    Leak,
    PartialSums,
    StrictLeak,
    Window,
)
from psu_deploy.machine.ops.pointwise import Activation, Add, Flatten, Multiply
from psu_deploy.machine.ops.pooling import AvgPool, MaxPool, SumPool
from psu_deploy.machine.ops.registry import KINDS, op
from psu_deploy.machine.ops.sliding import Padding

__all__ = [
    "KINDS",
    "Activation",
    "Add",
    "AvgPool",
    "BernoulliNeuron",
    "CausalOperator",
    "ChannelAffine",
    "Conv1d",
    "Conv2d",
    "Delay",
    "Estimator",
    "Exponentials",
    "Filter",
    "Flatten",
    "Hold",
    "Identity",
    "LIFNeuron",
    "Layer",
    "Leak",
    "Linear",
    "MaxPool",
    "Multiply",
    "Neuron",
    "Padding",
    "PartialSums",
    "RawCurrent",
    "Readout",
    "Sigmoid",
    "SigmoidTable",
    "SpikingNeuron",
    "Staircase",
    "StrictLeak",
    "SumPool",
    "TimeConv",
    "Wait",
    "Window",
    "op",
]
