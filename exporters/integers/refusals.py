"""What has no form in netx, or in Loihi's fixed point: found before anything is lowered, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator

from psu_deploy.errors import Problem, Refusal
from psu_deploy.exporters.integers.neurons import decays_of
from psu_deploy.exporters.integers.real_operators import rows_of
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.schedule import INPUT

_CHAIN = "a network in netx is one chain of layers, without branches that meet again"

_PRODUCT = Refusal("netx has no products of signals", "leave the product out, or export to ONNX")
_NO_LAYER = Refusal("netx has no layer for it", "use a spiking neuron, or export to ONNX")
_ORDER = Refusal("netx has no order of numbers", "rank what comes out instead, or export to ONNX")
_MOVED = Refusal("netx moves features by the weights of a layer only", "use a Linear, or export to ONNX")
_JOINED = Refusal(_CHAIN, "leave the branch out, or export to ONNX")

REFUSED: dict[type, Refusal] = {
    ops.Add: Refusal(_CHAIN, "leave the skip connection out, or export to ONNX or NIR"),
    **dict.fromkeys((ops.Subtract, ops.Concat), _JOINED),
    **dict.fromkeys((ops.Multiply, ops.Divide, ops.MatMul), _PRODUCT),
    **dict.fromkeys((ops.Activation, ops.Elementary, ops.Power, ops.LeakyReLU, ops.PReLU, ops.ELU), _NO_LAYER),
    **dict.fromkeys((ops.Softplus, ops.Clamp, ops.LayerNorm, ops.RMSNorm, ops.GroupNorm), _NO_LAYER),
    **dict.fromkeys((ops.Softmax, ops.LogSoftmax, ops.LPPool), _NO_LAYER),
    **dict.fromkeys((ops.TopK, ops.ArgMax, ops.ArgTopK), _ORDER),
    **dict.fromkeys((ops.Conv3d, ops.ConvTranspose1d, ops.ConvTranspose2d), _NO_LAYER),
    **dict.fromkeys((ops.Reshape, ops.Permute, ops.Take, ops.Expand, ops.ConstantPad), _MOVED),
    **dict.fromkeys((ops.Reduce, ops.Project, ops.Affine), _MOVED),
    ops.Outputs: Refusal("netx gives one output", 'export one of them, machine.only("name"), or to ONNX'),
    ops.MeanOfLast: Refusal("netx keeps no steps to take a mean of", "take the mean of all steps, or export to ONNX"),
    ops.Delay: Refusal("netx has no delay line", "export to ONNX or NIR"),
    ops.Wait: Refusal("netx has no delay line", "export to ONNX"),
    ops.TimeConv: Refusal("netx has no convolution along time", "use SlidingPSN, or export to ONNX"),
    ops.HandOver: Refusal("a membrane that feeds back through a sine, which netx does not have", "export to ONNX"),
    ops.BernoulliNeuron: Refusal("fires at random, and there is no noise in it", "use PSU or LIF, or export to ONNX"),
}
"""Kinds of layer that no network in netx has."""

_ENDS = (ops.Readout, ops.Flatten)
"""What may stand behind the last neuron or filter."""


def problems_of(machine: StateMachine, vocabulary: Vocabulary) -> list[Problem]:
    """Everything that stands in the way, in network order; kinds without a row in the tables too."""
    problems: list[Problem] = []
    for index, node in enumerate(machine.nodes):
        problems += vocabulary.unknown(node)
        kind = type(node.layer).__name__
        problems += [Problem(node.name, kind, *found) for found in _reasons(machine, index, node)]
    return problems


def _reasons(machine: StateMachine, index: int, node: Node) -> Iterator[tuple[str, str]]:
    layer, features = node.layer, machine.shapes[node.inputs[0]]
    before = machine.nodes[index - 1].name if index else INPUT
    refusal = REFUSED.get(type(layer))
    if refusal is not None:
        yield refusal.reason, refusal.remedy
    elif node.inputs != (before,):
        yield _CHAIN, "leave the branch out, or export to ONNX or NIR"
    if isinstance(layer, ops.Linear) and len(features) != 1:
        yield f"a dense layer of netx reads one axis, this one {features}", "flatten before it, or use a convolution"
    if isinstance(layer, ops.Hold) and not machine.static_input:
        yield "netx cannot hold a value", "export to ONNX"
    if isinstance(layer, ops.Filter | ops.Readout) and not all(
        isinstance(later.layer, _ENDS) for later in machine.nodes[index + 1 :]
    ):
        yield "its numbers would go on into other layers", "let it be the network's end"
    if refusal is None:
        yield from ((row.reason, row.remedy) for _, row in rows_of(layer) if isinstance(row, Refusal))
    for decay in decays_of(layer):
        if not 0 <= decay <= 1:
            yield f"a decay of {decay:g}; Loihi has 0 to 1", "train with decays in 0..1"
