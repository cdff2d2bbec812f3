"""lava-dl's network of a .net file, with our neurons in its blocks."""

from __future__ import annotations

from typing import Any

import net_file
import synapses
from lava.magma.core.decorator import implements
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from neuron import Neuron
from shim import AbstractPyBlockModel, Conv, Dense, hdf5

BIAS_LARGEST = 2**15 - 1
"""Lava's LIF keeps its bias in sixteen bits, and wraps a larger one silently."""


class Network(hdf5.Network):
    """A chain of netx blocks; samples of `steps` steps run through it without a gap.

    Each block passes on the input of the time step before, so that layer k sees the first input at time step k + 2.

    Args:
        path: of the .net file.
        steps: of a sample.
    """

    def __init__(self, path: str, steps: int) -> None:
        self.steps = steps
        shape, self.described = net_file.read(path, steps)
        super().__init__(net_config=path, input_shape=shape[::-1])

    def _create(self) -> list[Any]:
        """The blocks, connected to each other; hdf5.Network calls it and connects both ends."""
        self.net_config.f.close()  # the processes are forked, and none of them needs the file any more
        blocks: list[Any] = []
        for k, layer in enumerate(self.described):
            shape = blocks[-1].shape if blocks else self.input_shape
            block = self._block(layer, k, shape)
            if blocks:
                out = blocks[-1].out
                (out.transpose([2, 1, 0]).flatten() if layer["flatten"] else out).connect(block.inp)
            blocks.append(block)
        return blocks

    def _block(self, layer: dict[str, Any], k: int, input_shape: tuple[int, ...]) -> Any:
        given = {
            "shape": layer["shape"][::-1],
            "neuron_params": self._neuron(layer, k),
            # To Dense a spike is a message that says 1: picking out columns for spikes takes Lava four times as long as
            # the whole product, once half the neurons fire.
            "input_message_bits": layer["message_bits"] if layer["type"] == "conv" else net_file.MESSAGE_BITS,
            "bias": layer["bias"] if self._is_cuba(layer) else None,
        }
        if layer["type"] == "conv":
            return Conv(input_shape=input_shape, **synapses.conv(layer), **given)
        return Dense(**synapses.dense(layer["weight"]), **given)

    def _is_cuba(self, layer: dict[str, Any]) -> bool:
        """Whether Lava's own LIF does it."""
        return bool(layer["neuron"]["type"] == "CUBA")

    def _neuron(self, layer: dict[str, Any], k: int) -> dict[str, Any]:
        """The neuron of a block, as netx wants it described."""
        if self._is_cuba(layer):
            if abs(layer["bias"]).max(initial=0) > BIAS_LARGEST:
                raise ValueError(f"synapse {k} has a bias beyond {BIAS_LARGEST}, the largest that Lava's LIF holds")
            return self.get_neuron_params(layer["neuron"], reset_interval=self.steps, reset_offset=k + 2)
        return {
            "neuron_proc": Neuron,
            "numbers": layer["neuron"],
            "bias": layer["bias"],
            "steps": self.steps,
            "offset": k + 1,
            "num_message_bits": net_file.MESSAGE_BITS if layer["neuron"]["type"] == "RELAY" else 0,
        }


@implements(proc=Network, protocol=LoihiProtocol)
class PyNetwork(AbstractPyBlockModel):
    """Nothing but its blocks."""

    def __init__(self, proc: Any) -> None:
        super().__init__(proc)
