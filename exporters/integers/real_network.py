"""The network as Lava sees it, in real numbers yet: a chain of blocks, each a synapse and a neuron."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape


@dataclass(frozen=True, eq=False)
class RealDense:
    """`a = W x + b`: weight (out, in), bias (out,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class RealConv:
    """A cross-correlation over two axes as Lava has it: as many zeros before an axis as behind it.

    Args:
        weight: (C_out, C_in/groups, kh, kw).
        bias: (C_out,).
        stride: (y, x).
        padding: (y, x).
        dilation: (y, x).
        groups: number of groups.
    """

    weight: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


Synapse = RealDense | RealConv


@dataclass(frozen=True)
class Gate:
    """`S = 1 if a > 0 else 0`: behind a sum of spikes, their maximum."""


BlockNeuron = ops.SpikingNeuron | ops.LIFNeuron | ops.Filter | Gate | None


@dataclass(frozen=True, eq=False)
class Block:
    """A synapse and what it feeds.

    Args:
        name: of the machine's layer that gave the neuron, or the weights where there is none.
        synapse: weights.
        neuron: of the machine, a gate, or None: the numbers go on as they are.
        shape: features out as Lava counts them, (n,) or (C, H, W).
        flatten: whether the features in, (C, H, W), are read as one axis.
    """

    name: str
    synapse: Synapse
    neuron: BlockNeuron
    shape: Shape
    flatten: bool


@dataclass(frozen=True, eq=False)
class Chain:
    """A network of blocks, one behind the other.

    Args:
        blocks: in order.
        input_shape: features in as Lava counts them, (n,) or (C, H, W).
        readout: what the decoder does with the outputs of all steps: "last", "sum" or "mean".
    """

    blocks: tuple[Block, ...]
    input_shape: Shape
    readout: str
