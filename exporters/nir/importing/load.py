"""The way in: a NIR graph becomes a state machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import InputError, Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.nir.files import Flat, check_graph, read_graph, read_metadata
from psu_deploy.exporters.nir.files.nodes import kind_name
from psu_deploy.exporters.nir.importing.cycles import cycle_problem, take_cycles
from psu_deploy.exporters.nir.importing.layers import Branches, Layers
from psu_deploy.exporters.nir.importing.node_order import in_order
from psu_deploy.exporters.nir.importing.parameters import ROUNDED
from psu_deploy.exporters.nir.importing.resets import take_resets
from psu_deploy.exporters.nir.importing.spiking import CONVERTERS, SPIKING
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.graph import Node
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.machine.schedule import INPUT, STEP
from psu_deploy.machine.size import check_size

FOREIGN = ("sinabs", "rockpool")
"""Dialects of our exporter that mean something else by a time constant than NIR does."""


def load(source: Any, dt: float | None = None) -> StateMachine:
    """Turn a NIR graph into a state machine.

    NIR is continuous in time. The machine takes steps of dt by forward Euler, as stepwise simulators do:

        v += dt/tau*(v_leak - v + r*x);   S = 1 if v > v_threshold else 0;   v = v_reset where S = 1

    Several edges into a node are summed. Potentials and currents start at 0, membranes of neurons that spike at their
    reset potential. A node of the machine has the name of its node in the graph, and `name.sum`, `name.0`, ... stand in
    front of it where it takes more than one layer.

    Which dt belongs to a file:

    * of `psu_deploy.export(..., target="nir")`: it is in the file; leave it out.
    * of `snntorch.export_nir.export_to_nir`: 1e-4, always. It says nothing of the reset, so only networks that
      reset as NIR does have the same spikes: `reset_mechanism="zero"`, and for `Synaptic` `reset_delay=False` as well.
    * of `norse.torch.to_nir(net, x, dt=d)`: d times the dt of the network's cells, 1e-6 if neither was set, because it
      writes tau = d/tau_inv where tau = 1/tau_inv is meant. Set `d=1` and it is the dt of the cells. An `LIFCell` loses
      its input gain: multiply `w_in` of its CubaLIF node by tau_syn/dt. An `IAFCell` adds its input as it is: multiply
      `r` of its IF node by 1/dt.

    Args:
        source: path of a NIR file, or a `nir.NIRGraph`; it is not changed.
        dt: seconds per step; may be left out if the file says it.

    Raises:
        ArtifactError: if the file or the graph is malformed, or takes more memory than it may.
        InputError: if dt is missing, not a number above zero, or not the one the file was written for; or if the file
            is one of ours for sinabs or rockpool.
        UnsupportedModelError: if nodes cannot be expressed; all of them are listed.
        MissingExtraError: if nir or h5py is not installed.
    """
    if not isinstance(source, str | Path) and kind_name(source) != "NIRGraph":
        raise InputError(f"expected the path of a NIR file or a nir.NIRGraph, got {kind_name(source)}")
    graph, label = (read_graph(source), str(source)) if isinstance(source, str | Path) else (source, "the NIR graph")
    metadata = read_metadata(graph, label)
    if metadata.get("flavour") in FOREIGN:
        raise InputError(
            f"{label} is written in the numerics of {metadata['flavour']}, which are not those of NIR; "
            "read the canonical file of the same network, or one for another simulator"
        )
    step = _time_step(dt, metadata.get("dt"), label)
    machine = _Conversion(*check_graph(graph, label), step).machine()
    check_size(machine, Path(source).stat().st_size if isinstance(source, str | Path) else 0, label)
    return machine


def _time_step(given: Any, said: float | None, label: str) -> float:
    if given is None and said is None:
        missing = f"{label} does not say its time step"
        raise InputError(
            f"{missing}; pass dt=..., in seconds per step", shell=f"{missing}; add --dt, in seconds per step"
        )
    if given is None:
        return float(said or 0.0)
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not 0 < given < float("inf"):
        raise InputError(f"dt must be seconds per step, a number above zero, got {given!r}")
    if said is not None and abs(float(given) - said) > ROUNDED * said:
        raise InputError(
            f"{label} was written for dt = {said:g} s, but dt = {float(given):g} is asked for; leave it out"
        )
    return float(given)


class _Conversion:
    """One walk along one graph; collects everything that stands in the way before it complains."""

    def __init__(self, flat: Flat, shapes: dict[str, tuple[Shape, Shape]], dt: float) -> None:
        self._shapes = shapes
        flat, self._known = take_cycles(flat, self._shapes)
        self._flat, subtracting = take_resets(flat, self._known, self._shapes, dt)
        self._known |= subtracting
        self._sources = self._flat.sources()
        self._dt = dt
        self._nodes: list[Node] = []
        self._problems: list[Problem] = []
        self._taken = {INPUT, STEP, *flat.nodes}
        self._value = {flat.input: INPUT}

    def machine(self) -> StateMachine:
        """The machine, or `UnsupportedModelError`."""
        order, cycles = in_order(self._flat)
        self._problems += [cycle_problem(cycle, self._flat, SPIKING) for cycle in cycles]
        stuck = self._flat.nodes.keys() - set(order)
        for name in [*order, *sorted(stuck)]:
            layers = self._layers(name)
            if name not in stuck and name != self._flat.input:
                self._value[name] = self._chain(name, layers)
        if self._problems:
            raise UnsupportedModelError(self._problems, "turn the NIR graph into a state machine")
        output = self._value[self._flat.output]
        if output == INPUT:  # a machine has at least one layer
            output = self._add(self._free("output"), _identity(self._input_shape), (INPUT,))
        return StateMachine(tuple(self._nodes), self._input_shape, output)

    @property
    def _input_shape(self) -> Shape:
        return self._shapes[self._flat.input][1]

    def _layers(self, name: str) -> Layers | Branches:
        if name in self._known:
            return self._known[name]
        node = self._flat.nodes[name]
        try:
            return CONVERTERS[kind_name(node)](node, self._shapes[name][0], self._dt)
        except (Refusal, InputError) as error:
            remedy = error.remedy if isinstance(error, Refusal) else "change the node"
            self._problems.append(Problem(name, kind_name(node), str(error), remedy))
            return []

    def _chain(self, name: str, layers: Layers | Branches) -> str:
        """Add the layers of one node behind the sum of what feeds it; the last one has its name."""
        inputs = tuple(self._value[source] for source in self._sources[name])
        own = self._free(name) if name in (INPUT, STEP) else name
        if len(inputs) > 1:
            inputs = (self._add(self._free(f"{name}.sum") if layers else own, ops.Add(), inputs),)
        if isinstance(layers, Branches):
            ends = [
                self._behind(inputs[0], chain, f"{name}.{index}", self._free(f"{name}.{index}"))
                for index, chain in enumerate(layers.chains)
            ]
            return self._add(own, ops.Add(), tuple(ends))
        return self._behind(inputs[0], layers, name, own)

    def _behind(self, source: str, layers: Layers, name: str, last: str) -> str:
        """A chain of layers; the end of it is called `last`."""
        for index, layer in enumerate(layers):
            called = last if index == len(layers) - 1 else self._free(f"{name}.{index}")
            source = self._add(called, layer, (source,))
        return source

    def _add(self, name: str, layer: ops.Layer, inputs: tuple[str, ...]) -> str:
        self._nodes.append(Node(name, layer, inputs))
        return name

    def _free(self, name: str) -> str:
        """A name that neither a node of the graph nor another layer has."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _identity(features: Shape) -> ops.Layer:
    return ops.ChannelAffine(np.ones(features[0]), np.zeros(features[0]))
