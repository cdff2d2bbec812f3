"""Layers that no graph of NIR's nodes computes, and why."""

from __future__ import annotations

from psu_deploy.errors import Refusal
from psu_deploy.machine import ops

_PRODUCT = Refusal("NIR has no product of two signals", "leave the gate or the attention out, or export to ONNX")
_FUNCTION = Refusal("NIR has no pointwise nonlinearity but the threshold", "use a neuron layer in its place")
_DIVISOR = Refusal("NIR divides by nothing that it computes", "use BatchNorm, or export to ONNX")
_MOVED = Refusal("NIR moves and joins features by weights, sums and Flatten only", "use a Linear, or export to ONNX")
_CONV = Refusal("NIR has convolutions over one and two axes, none transposed", "export to ONNX")
_ORDER = Refusal("NIR has no order of numbers, no decision but that of a neuron", "rank what comes out instead")
_LAST = Refusal("no simulator keeps the steps it is a mean of", "read out the mean of all steps, or export to ONNX")

WITHOUT_NODE: dict[type, Refusal] = {
    **dict.fromkeys((ops.Multiply, ops.MatMul), _PRODUCT),
    **dict.fromkeys((ops.Activation, ops.Elementary, ops.Power, ops.LeakyReLU, ops.PReLU), _FUNCTION),
    **dict.fromkeys((ops.ELU, ops.Softplus, ops.Clamp, ops.LPPool), _FUNCTION),
    **dict.fromkeys((ops.Divide, ops.LayerNorm, ops.RMSNorm, ops.GroupNorm, ops.Softmax, ops.LogSoftmax), _DIVISOR),
    **dict.fromkeys((ops.Reshape, ops.Permute, ops.Take, ops.Concat, ops.Expand, ops.ConstantPad), _MOVED),
    **dict.fromkeys((ops.Reduce, ops.Project, ops.Affine, ops.Subtract), _MOVED),
    **dict.fromkeys((ops.Conv3d, ops.ConvTranspose1d, ops.ConvTranspose2d), _CONV),
    ops.MeanOfLast: _LAST,
    ops.HandOver: Refusal("a membrane that feeds back through a sine, which NIR does not have", "export to ONNX"),
    ops.Outputs: Refusal("the simulators give one output", 'export one of them, machine.only("name"), or to ONNX'),
    **dict.fromkeys((ops.TopK, ops.ArgMax, ops.ArgTopK), _ORDER),
    ops.BernoulliNeuron: Refusal("it fires at random, and NIR has no random primitive", "train with PSU, IPSU or RPSU"),
}
"""Kind -> why there is none."""
