"""The state machine: a whole network, fed one time step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.graph import Graph, check_state
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_fits,
    check_horizon,
    check_sequence,
    check_static,
    check_step,
    numpy_state,
)
from psu_deploy.machine.ops.context import NeuronStep
from psu_deploy.machine.overflow import check_done
from psu_deploy.machine.reference import Interpreter, Step
from psu_deploy.machine.schedule import INPUT, OUTPUT, STEP
from psu_deploy.machine.summary import summarise
from psu_deploy.machine.trace import Trace, sole

_DTYPES = ("float32", "float64")


@dataclass(frozen=True, eq=False)
class StateMachine(Graph):
    """A network as a directed acyclic graph of layers plus named state tensors, and the serial run of it.

    Plain data, validated when made. Running it changes nothing in it: state goes in and comes out.

    Args:
        nodes: layers in an order in which every input is computed before it is used.
        input_shape: features of one input step, no time, no batch.
        output: name of the node that is the network's output; "" = the last one.

    Raises:
        InputError: if a name is used twice or unknown, a layer gets the wrong number of inputs, or shapes do not fit.

    Shapes: one step is (B, *input_shape) in and (B, *features) out; a sequence has T in front.

    >>> from psu_deploy.machine import Node, ops
    >>> machine = StateMachine((Node("sum", ops.Readout("sum"), ("x",)),), input_shape=(2,))
    >>> x = np.array([[[1.0, 2.0]], [[3.0, 4.0]]], np.float32)  # (T, B, 2)
    >>> machine.run(x).tolist()
    [[[1.0, 2.0]], [[4.0, 6.0]]]
    >>> y, state = machine.step(x[0], machine.initial_state())
    >>> y.tolist()
    [[1.0, 2.0]]
    """

    _interpreters: dict[Any, Interpreter] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle carries: the data, not the interpreters made for it."""
        return {**vars(self), "_interpreters": {}}

    def initial_state(self, batch_size: int = 1, dtype: str = "float32") -> dict[str, Any]:
        """State before the first step: zeros, numpy, name -> (batch_size, *shape).

        Args:
            batch_size: B, at least 1.
            dtype: "float32" or "float64".
        """
        batch_size = check_batch_size(batch_size)
        if dtype not in _DTYPES:
            raise InputError(f"dtype must be one of {_DTYPES}, got {dtype!r}")
        return {
            name: np.zeros((batch_size, *spec.shape), dtype) if spec.batched else np.zeros((), np.int64)
            for name, spec in self.state_spec.items()
        }

    def step(self, x: Any, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Advance by one step. Pure: neither x nor state is changed.

        Args:
            x: one input step, (B, *input_shape), float32 or float64, numpy or torch on any device.
            state: as returned by `initial_state` or by the step before.

        Returns:
            Output (B, *features) and the next state, in x's own kind, dtype and device. Of a network with several
            outputs, a dictionary of them, as in `outputs`.

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: state of another machine or batch size, or numbers in it that are none; or x is so large that a
                V, an R, a state or the output overflowed in this step.
            HorizonError: no such step.
        """
        check_step(x, self.input_shape, _DTYPES)
        tensor, give = _tensor(x), _kind_of(x)
        done = self._step(tensor, self._state_for(tensor, len(x), state), None)
        # A copy, so that a caller who writes into y cannot touch the state: a sum is both.
        return self._given(done.output.clone(), give), {name: give(value) for name, value in done.state.items()}

    def run(self, x: Any, state: Mapping[str, Any] | None = None) -> Any:
        """Run a whole sequence serially.

        Args:
            x: (T, B, *input_shape), float32 or float64, numpy or torch on any device.
            state: where to start; None = the initial state.

        Returns:
            Output of every step, (T, B, *features), in x's own kind, dtype and device; a dictionary of them where
            there are several. With a readout, `y[-1]` is the network's answer; with a latency of L, feed L silent steps
            more, and the first L rows are none.

        Raises:
            InputError, StateError, HorizonError: as `step`; whether there are as many steps is asked before the first.
        """
        give = _kind_of(x)
        return self._given(torch.stack([step.output for step in self._steps(x, state, None)]), give)

    def trace(
        self,
        x: Any,
        state: Mapping[str, Any] | None = None,
        *,
        spikes: Mapping[str, Any] | None = None,
        watch: Callable[[Step], object] | None = None,
    ) -> Trace:
        """Run a whole sequence serially and keep what every neuron layer did.

        Args:
            x: (T, B, *input_shape), float32 or float64, numpy or torch on any device.
            state: where to start; None = the initial state.
            spikes: neuron layer -> spikes (T, B, *features) it shall emit instead of deciding by itself. The trace
                still holds what it would have decided.
            watch: called with every step, as tensors, once it is done.
        """
        outputs, neurons, last = [], [], None
        for step in self._steps(x, state, spikes):  # only the last state is kept: T of them may be T times too many
            if watch is not None:
                watch(step)
            outputs.append(step.output)
            neurons.append(step.neurons)
            last = step.state
        give = _kind_of(x)
        return _stack(self._given(torch.stack(outputs), give), neurons, last or {}, self.spiking, give)

    def only(self, output: str) -> StateMachine:
        """The network with one of its several outputs, and the layers that this one needs.

        Args:
            output: its name, one of `outputs`.

        Raises:
            InputError: if there is no output of this name, or it is the network's input.
        """
        from psu_deploy.machine.passes import RemoveDeadLayers

        if output not in self.outputs:
            raise InputError(f"there is no output {output!r}; there are {list(self.outputs)}")
        if tuple(self.outputs) == (OUTPUT,):
            return self
        source = self.sources[output]
        if source == INPUT:
            raise InputError(f"the output {output!r} is the network's input: no layer computes it")
        nodes = tuple(node for node in self.nodes if node is not self.end)
        return RemoveDeadLayers()(StateMachine(nodes, self.input_shape, source))

    def _given(self, y: Tensor, give: Callable[[Tensor], Any]) -> Any:
        """What the last layer gives, as a caller gets it."""
        return sole({name: give(values) for name, values in self.split(y).items()})

    def _steps(self, x: Any, state: Mapping[str, Any] | None, spikes: Mapping[str, Any] | None) -> Iterator[Step]:
        check_sequence(x, self.input_shape, self.horizon, _DTYPES)
        if self.static_input:
            check_static(x)
        tensor = _tensor(x)
        now = self._state_for(tensor, x.shape[1], self.initial_state(x.shape[1]) if state is None else state)
        check_horizon(int(now.get(STEP, 0)), self.horizon, len(x))
        forced = None if spikes is None else self._spikes_for(tensor, spikes)
        for t, x_t in enumerate(tensor):
            step = self._step(x_t, now, t, None if forced is None else {name: s[t] for name, s in forced.items()})
            now = step.state
            yield step

    def _step(
        self, x: Tensor, state: Mapping[str, Tensor], row: int | None, spikes: Mapping[str, Tensor] | None = None
    ) -> Step:
        """One step; `row` is its number in a sequence, for the message where no counter is in the state."""
        number = int(state[STEP]) if STEP in state else row
        if STEP in state:
            check_horizon(int(state[STEP]), self.horizon)
        key = (x.dtype, x.device)
        if key not in self._interpreters:
            self._interpreters[key] = Interpreter(self, x.dtype, x.device)
        with torch.no_grad():
            done = self._interpreters[key].step(x, state, spikes)
            check_done(self, done, None if number is None else number + 1)
        return done

    def _spikes_for(self, x: Tensor, spikes: Mapping[str, Any]) -> dict[str, Tensor]:
        """The given spikes as tensors of x's dtype and device, checked."""
        unknown = sorted(set(spikes) - set(self.spiking))
        if unknown:
            raise InputError(f"spikes of {unknown}: no such neuron layers; there are {list(self.spiking)}")
        for name in self.spiking:
            expected = (*x.shape[:2], *self.shapes[name])
            if name not in spikes or tuple(spikes[name].shape) != expected:
                got = tuple(spikes[name].shape) if name in spikes else "nothing"
                raise InputError(f"spikes of layer {name!r} must have shape {expected}, got {got}")
        return {name: _tensor(spikes[name]).to(x) for name in self.spiking}

    def _state_for(self, x: Tensor, batch: int, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The given state as tensors of x's dtype and device, checked."""
        check_state(state, self.state_spec, batch)
        return {name: self._state_tensor(x, name, value) for name, value in state.items()}

    def _state_tensor(self, x: Tensor, name: str, value: Any) -> Tensor:
        if not self.state_spec[name].batched:
            return torch.as_tensor(value, dtype=torch.int64)
        dtype = str(x.dtype).removeprefix("torch.")
        if isinstance(value, Tensor):
            tensor = value.to(x)
            check_fits(name, value.dtype == x.dtype or bool(tensor.isfinite().all()), dtype)
            return tensor
        return _tensor(numpy_state(name, value, dtype)).to(x)

    def summary(self) -> str:
        """A table: layer, kind, output shape, number of parameters, bytes of float32 state per sample."""
        return summarise(self)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the graph and every number in it; the same for two machines that compute the same."""
        from psu_deploy.machine.storage import content_hash

        return content_hash(self)

    def save(self, path: str | Path) -> Path:
        """Write the machine to one file (safetensors with a JSON header; no pickle). Whole or not at all."""
        from psu_deploy.machine.storage import save

        return save(self, path)

    @staticmethod
    def load(path: str | Path) -> StateMachine:
        """Read a machine from a file written by `save`.

        Raises:
            ArtifactError: if the file is missing, truncated, malformed or not a machine.
        """
        from psu_deploy.machine.storage import load

        graph = load(path)
        return StateMachine(graph.nodes, graph.input_shape, graph.output)


def _stack(
    output: Any,
    neurons: Sequence[Mapping[str, NeuronStep]],
    state: Mapping[str, Tensor],
    spiking: Sequence[str],
    give: Callable[[Tensor], Any],
) -> Trace:
    def column(kind: int) -> dict[str, Any]:
        return {name: give(torch.stack([step[name][kind] for step in neurons])) for name in spiking}

    return Trace(
        output=output,
        spikes=column(0),
        potential=column(1),
        reset=column(2),
        margin=column(3),
        state={name: give(value) for name, value in state.items()},
        estimate=column(4),
    )


def _tensor(x: Any) -> Tensor:
    """As a torch tensor, sharing memory where numpy allows it."""
    return x if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements=["C", "W"]))


def _kind_of(x: Any) -> Callable[[Tensor], Any]:
    """What turns a result into the caller's kind: numpy in, numpy out."""
    return (lambda result: result) if isinstance(x, Tensor) else (lambda result: result.numpy())
