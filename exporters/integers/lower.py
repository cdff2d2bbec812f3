"""State machine -> chain of blocks: what netx has no layer for becomes weights, or is refused with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from psu_deploy.errors import Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.integers.folding import (
    LONGEST,
    LinearPool,
    behind_conv,
    conv_size,
    fits_lava,
    into_conv,
    into_dense,
    pool_as_conv,
    pooled_size,
    two_axes,
)
from psu_deploy.exporters.integers.neurons import ESTIMATORS
from psu_deploy.exporters.integers.real_network import (
    Block,
    BlockNeuron,
    Chain,
    Gate,
    RealConv,
    RealDense,
    Synapse,
)
from psu_deploy.exporters.integers.real_operators import OPERATORS, row_of
from psu_deploy.exporters.integers.refusals import REFUSED, problems_of
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.runtime.readout import READOUTS


def lower(machine: StateMachine) -> Chain:
    """The machine as a chain of synapses and neurons, in real numbers.

    Raises:
        UnsupportedModelError: listing everything that netx, or Loihi's fixed point, has no form for, and every kind
            that nobody here knows.
    """
    problems = problems_of(machine, VOCABULARY)
    if problems:
        raise UnsupportedModelError(problems, "export to Lava")
    walk = _Walk(_lava_shape(machine.input_shape), {node.name for node in machine.nodes})
    for node in machine.nodes:
        with _refused_at(node):
            walk.visit(node)
    with _refused_at(next((node for node in machine.nodes if node.name == walk.name), machine.nodes[-1])):
        walk.finish()
    return walk.chain()


@contextmanager
def _refused_at(node: Node) -> Iterator[None]:
    """A refusal gets its place."""
    try:
        yield
    except Refusal as error:
        problem = Problem(node.name, type(node.layer).__name__, error.reason, error.remedy)
        raise UnsupportedModelError([problem], "export to Lava") from error


@dataclass
class _Walk:
    """Where the chain ends so far: features, poolings that wait for weights, weights that wait for a neuron.

    Attributes:
        shape: features at the end, as Lava counts them.
        taken: names that no block of our own making may have.
        blocks: those that are complete.
        pools: that wait, with the shape each is given.
        synapse: that waits.
        flatten: whether it reads (C, H, W) as one axis.
        flat: whether the machine counts the features at the end as one axis.
        name: of the layer that gave the last weights.
        readout: what the decoder does.
    """

    shape: Shape
    taken: set[str]
    blocks: list[Block] = field(default_factory=list)
    pools: list[tuple[LinearPool, Shape]] = field(default_factory=list)
    synapse: Synapse | None = None
    flatten: bool = False
    flat: bool = False
    name: str = ""
    readout: str = "last"

    def __post_init__(self) -> None:
        self._input_shape = self.shape

    def visit(self, node: Node) -> None:
        row_of(_RULES, node.layer)(self, node.name, node.layer)

    def finish(self) -> None:
        if self.synapse is not None or self.pools or not self.blocks:
            self.neuron(self.name or self._new_name("identity"), None)

    def chain(self) -> Chain:
        return Chain(tuple(self.blocks), self._input_shape, self.readout)

    def linear(self, name: str, layer: ops.Linear) -> None:
        self.name = name
        weight = layer.weight
        bias = np.zeros(len(weight)) if layer.bias is None else layer.bias
        if isinstance(self.synapse, RealConv):
            raise Refusal("weights behind weights, without a neuron in between", "put a neuron between them")
        if self.synapse is not None:
            self.synapse = RealDense(weight @ self.synapse.weight, weight @ self.synapse.bias + bias)
        else:
            for pool, shape in reversed(self.pools):
                weight = into_dense(weight, pool, shape)
            read = self.blocks[-1].shape if self.blocks else self._input_shape
            self._open(RealDense(weight, bias), flatten=len(read) == 3)
        self.shape = (len(weight),)

    def conv(self, name: str, layer: ops.Conv1d | ops.Conv2d) -> None:
        self.name = name
        conv = two_axes(layer)
        if self.synapse is not None:
            raise Refusal("weights behind weights, without a neuron in between", "put a neuron between them")
        size = conv_size(conv, self.shape)
        folded = into_conv(conv, *self.pools[0]) if len(self.pools) == 1 else None
        if self.pools and folded is None:
            self._close(self._new_name(f"{name}.pooled"), None)
        self._open(conv if folded is None else folded, flatten=False)
        self.shape = (len(conv.weight), *size)

    def affine(self, name: str, layer: ops.ChannelAffine) -> None:
        if self.synapse is None or (self.flat and isinstance(self.synapse, RealConv)):
            raise Refusal("a BatchNorm that is not behind weights", "put it behind a Linear or convolution")
        weight, bias = self.synapse.weight, self.synapse.bias
        scale = layer.scale.reshape(-1, *[1] * (weight.ndim - 1))
        self.synapse = replace(self.synapse, weight=weight * scale, bias=bias * layer.scale + layer.shift)

    def pool(self, name: str, pool: LinearPool) -> None:
        self.name = name
        if isinstance(self.synapse, RealConv):
            self._open(behind_conv(self.synapse, pool), flatten=False)
        else:
            self.pools.append((pool, self.shape))
        self.shape = (self.shape[0], *pooled_size(pool, self.shape))

    def max_pool(self, name: str, pool: ops.MaxPool) -> None:
        spikes = bool(self.blocks) and isinstance(self.blocks[-1].neuron, ops.Neuron | Gate)
        if not spikes or self.synapse is not None or self.pools:
            raise Refusal("MaxPool of anything but spikes", "move it behind the neuron, or use AvgPool")
        size = pooled_size(pool, self.shape)
        self._open(pool_as_conv(pool, self.shape[0]), flatten=False)
        self.shape = (self.shape[0], *size)
        self._close(name, Gate())

    def flatten_features(self, name: str, layer: ops.Flatten) -> None:
        self.flat = True

    def hold(self, name: str, layer: ops.Hold) -> None:
        """Nothing: what is held of a static input is the same in every step anyway."""

    def read_out(self, name: str, layer: ops.Readout) -> None:
        if layer.kind not in READOUTS:
            raise Refusal(f"the running {layer.kind} of the output", f"read out one of {', '.join(READOUTS)}")
        self.readout = layer.kind

    def neuron(self, name: str, neuron: BlockNeuron) -> None:
        if self.synapse is None and not self.pools:
            self._open(_identity(self.shape), flatten=False)
        self._close(name, neuron)

    def _new_name(self, wanted: str) -> str:
        while wanted in self.taken:
            wanted += "_"
        self.taken.add(wanted)
        return wanted

    def _open(self, synapse: Synapse, flatten: bool) -> None:
        if isinstance(synapse, RealConv) and not fits_lava(synapse):
            raise Refusal(
                f"a kernel, stride, padding or dilation beyond {LONGEST}, which Lava keeps in eight bits",
                "use a smaller one, or a dense layer",
            )
        self.synapse, self.flatten, self.pools, self.flat = synapse, flatten, [], False

    def _close(self, name: str, neuron: BlockNeuron) -> None:
        if self.synapse is None:
            self._open_pool()
        assert self.synapse is not None
        self.blocks.append(Block(name, self.synapse, neuron, self.shape, self.flatten))
        self.synapse, self.flatten = None, False

    def _open_pool(self) -> None:
        """Poolings that no weights took in become weights of their own, one block each but the last."""
        *before, (pool, shape) = self.pools
        end = self.shape
        for earlier, given in before:
            self._open(pool_as_conv(earlier, given[0]), flatten=False)
            self.shape = (given[0], *pooled_size(earlier, given))
            self._close(self._new_name(f"pool{len(self.blocks)}"), None)
        self._open(pool_as_conv(pool, shape[0]), flatten=False)
        self.shape = end


_RULES: dict[type, Callable[[_Walk, str, Any], None] | Refusal] = {
    ops.Linear: _Walk.linear,
    ops.Conv1d: _Walk.conv,
    ops.Conv2d: _Walk.conv,
    ops.ChannelAffine: _Walk.affine,
    ops.AvgPool: _Walk.pool,
    ops.SumPool: _Walk.pool,
    ops.MaxPool: _Walk.max_pool,
    ops.Flatten: _Walk.flatten_features,
    ops.Filter: _Walk.neuron,
    ops.Hold: _Walk.hold,
    ops.Readout: _Walk.read_out,
    ops.SpikingNeuron: _Walk.neuron,
    ops.LIFNeuron: _Walk.neuron,
    **REFUSED,
}
"""Kind -> what becomes of the chain's end: (walk, name, layer)."""

VOCABULARY = Vocabulary("the Lava exporter", _RULES, OPERATORS, ESTIMATORS)
"""Every kind that has a row."""


def _lava_shape(features: Shape) -> Shape:
    """(n,) or (C, H, W); an axis is an image of height 1. More axes are read as one."""
    if len(features) == 2:
        return (features[0], 1, features[1])
    return features if len(features) in (1, 3) else (prod(features),)


def _identity(shape: Shape) -> Synapse:
    """Weights that change nothing: a neuron without weights of its own needs some to stand behind."""
    if len(shape) == 1:
        return RealDense(np.eye(shape[0]), np.zeros(shape[0]))
    return RealConv(np.ones((shape[0], 1, 1, 1)), np.zeros(shape[0]), (1, 1), (0, 0), (1, 1), shape[0])
