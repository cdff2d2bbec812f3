"""A runner of an integer network: in numpy, by the definition itself, or in whatever else repeats it."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from psu_deploy.exporters.integers.input_code import clipped_share, encode
from psu_deploy.exporters.integers.metadata import IntegerHeader
from psu_deploy.exporters.integers.network import IntegerLayer, IntegerNetwork
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.exporters.integers.report import QuantisationReport
from psu_deploy.machine import Trace
from psu_deploy.runtime.contents import Contents, LayerLine, Tensor
from psu_deploy.runtime.engine_runner import EngineRunner
from psu_deploy.runtime.lifecycle import Lifecycle
from psu_deploy.runtime.readout import RunningReadout

_log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """What came out of a run: the last layer's numbers (T, B, *shape), and those of every recorded layer."""

    output: NDArray[Any]
    layers: dict[int, NDArray[Any]]


class IntegerRunner(EngineRunner):
    """What runs an integer network. A subclass has an engine, or is its own reference (`_in_numpy`).

    A subclass reads its file, calls `EngineRunner.__init__`, and then `_hold`.
    """

    _network: IntegerNetwork
    _header: IntegerHeader
    _in_numpy: bool

    def _hold(self, network: IntegerNetwork, header: IntegerHeader, *, in_numpy: bool) -> None:
        self._network, self._header, self._in_numpy = network, header, in_numpy
        self._readout = RunningReadout(header.readout)
        self._reference: Reference | None = None

    @abstractmethod
    def _in_engine(self, numbers: NDArray[np.int64], record: tuple[int, ...]) -> Sent:
        """Some steps on in the engine: whole numbers (T, B, *network.input_shape)."""

    @property
    def rounds(self) -> bool:
        """Whether it computes with rounded numbers, so that spikes may differ from the machine's."""
        return True

    @property
    def repeats(self) -> Self | None:
        """The runner whose every number this one must repeat; None = there is none."""
        return None if self._in_numpy else self._copy(in_numpy=True)

    @property
    def report(self) -> QuantisationReport:
        """What rounding did, layer by layer, as it was measured at export."""
        return QuantisationReport.from_dict(self._header.report)

    def notes(self, x: Any) -> list[str]:
        """What is worth knowing about a run on x: how much of it is cut off."""
        self._check_numpy(x)
        share = clipped_share(self._network, x)
        code = self._network.code
        low, high = code.low * code.unit, code.high * code.unit
        said = (
            f"{share:.2%} of the input lies outside {low:g} .. {high:g}, the range of the calibration data, and is cut"
        )
        return [f"{said} to it; export again with calibration data like this"] if share else []

    @property
    def contents(self) -> Contents:
        """Every layer of weights, with the neurons behind it."""

        def kind(layer: IntegerLayer) -> str:
            return f"{type(layer.synapse).__name__}, {type(layer.neuron).__name__}"

        layers = (LayerLine(layer.name, kind(layer), layer.shape) for layer in self._network.layers)
        ends = Tensor("input", self._features), Tensor("output", self._header.output_shape)
        return Contents(inputs=ends[:1], outputs=ends[1:], layers=tuple(layers))

    def _copy(self, *, in_numpy: bool) -> Self:
        """Another runner of the same file, at its start."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other._in_numpy, other._life = in_numpy, Lifecycle()
        return other

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        self._reference = Reference(self._network, batch) if self._in_numpy else None
        self._readout = RunningReadout(self._header.readout)
        return 0

    def _advance(self, x: NDArray[Any]) -> NDArray[Any]:
        for note in self.notes(x):
            _log.warning(note)
        return self._recorded(x, ())[0]

    def _trace(self, x: NDArray[Any], state: Mapping[str, Any] | None) -> Trace:
        """The spikes of every neuron layer."""
        shapes = self._header.neurons
        places = {layer.name: index for index, layer in enumerate(self._network.layers) if layer.name in shapes}
        other = self._copy(in_numpy=self._in_numpy)
        other.reset(x.shape[1])
        output, layers = other._recorded(x, tuple(places.values()))
        spikes = {
            name: layers[index].reshape(*x.shape[:2], *shapes[name]).astype(np.float32)
            for name, index in places.items()
        }
        return Trace(output=output, spikes=spikes)

    def _recorded(self, x: NDArray[Any], record: tuple[int, ...]) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        """Some steps on: outputs, and what the recorded layers sent."""
        sent = self._send(x, record)
        self._life.steps += len(x)
        output = self._real(sent.output)
        self._check_output(output)  # whole numbers saturate: only their sum overflows, or Lava in floating point
        return output, sent.layers

    def _real(self, sent: NDArray[Any]) -> NDArray[Any]:
        """The last layer's numbers (T, B, *shape) as the network's answers (T, B, *output_shape), float32."""
        real = sent.astype(np.float64)
        if sent.dtype.kind in "iu":
            real = real * self._network.units.reshape(-1, *[1] * (sent.ndim - 3))
        return self._readout(real.reshape(*sent.shape[:2], *self._header.output_shape)).astype(np.float32)

    def _send(self, x: NDArray[Any], record: tuple[int, ...]) -> Sent:
        numbers = encode(self._network, x)
        if self._reference is None:
            return self._in_engine(numbers, record)
        sent = self._reference.advance(numbers)
        return Sent(sent[-1], {index: sent[index] for index in record})
