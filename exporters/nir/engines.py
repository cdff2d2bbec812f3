"""The real simulators, each behind the same two calls: start anew, and run some steps from where it stands."""

from __future__ import annotations

import copy
import importlib
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import nir
import torch
from torch import Tensor, nn

from psu_deploy.errors import MissingExtraError
from psu_deploy.exporters.nir.target import DT


class Engine(ABC):
    """A simulator with a graph in it.

    Args:
        graph: as read from the file; readers may change it, so each gets a copy.
        watched: names of nodes whose outputs are kept.

    Attributes:
        package: what runs it, for people.
        reader: module with the simulator's own reader; "" = ours.
        resumes: whether a sequence may be cut and fed part by part.
    """

    package = ""
    reader = ""
    resumes = True

    def __init__(self, graph: nir.NIRGraph, watched: Sequence[str]) -> None:
        self._graph = graph
        self._watched = tuple(watched)
        self._seen: dict[str, list[Tensor]] = {}

    @classmethod
    def installed(cls) -> Any:
        """The reader.

        Raises:
            MissingExtraError: if it is not there.
        """
        return _simulator(cls.reader) if cls.reader else None

    def start(self, batch_size: int) -> None:
        """Forget everything."""
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="nirtorch.*")
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._module = self.load(copy.deepcopy(self._graph), batch_size)
        self._module.eval()
        self._state: Any = None
        for name in self._watched:
            self._module.get_submodule(name).register_forward_hook(self._keep(name))

    def advance(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Some steps on, (T, B, ...).

        Returns:
            Output (T, B, ...) and the outputs of the watched nodes, the same way.
        """
        self._seen = {name: [] for name in self._watched}
        with torch.no_grad():
            y = self.steps(x)
        return y, {name: self.stacked(values, x) for name, values in self._seen.items()}

    def overflow(self) -> str | None:
        """Name of the first node whose state is no longer finite; None = there is none, or the simulator hides it."""
        return None

    @abstractmethod
    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        """The simulator's own reader."""

    def steps(self, x: Tensor) -> Tensor:
        """Step by step, state in, state out."""
        outputs = []
        for x_t in x:
            y, self._state = self._module(x_t, self._state)
            outputs.append(y)
        return torch.stack(outputs)

    def stacked(self, values: list[Tensor], x: Tensor) -> Tensor:
        """What a node gave in all steps, (T, B, ...)."""
        return torch.stack(values)

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._seen[name].append(output[0] if isinstance(output, tuple) else output)

        return hook


class Executor(Engine):
    """Ours."""

    package = "psu_deploy"

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        from psu_deploy.exporters.nir.executor import to_torch

        return to_torch(graph, DT)

    def overflow(self) -> str | None:
        return next((node for node, value in self._states() if not bool(value.isfinite().all())), None)

    def _states(self) -> Iterator[tuple[str, Tensor]]:
        """Node and tensor; a node may have two, and one that is read back before it is computed has its last output."""
        for name, value in (self._state or {}).items():
            for tensor in value if isinstance(value, tuple) else (value,):
                if tensor is not None:
                    yield name.removesuffix("_prev_output"), tensor


class Norse(Engine):
    """norse, with the time step it must be told."""

    package = "norse"
    reader = "norse.torch"

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        module: nn.Module = self.installed().from_nir(graph, dt=DT, ignore_warnings=True)
        return module


class SnnTorch(Engine):
    """snntorch keeps the state in its modules too, so a fresh import is the only fresh start."""

    package = "snntorch"
    reader = "snntorch.import_nir"

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        module: nn.Module = self.installed().import_from_nir(graph)
        return module


class SpikingJelly(Engine):
    """SpikingJelly, one step at a time."""

    package = "spikingjelly"
    reader = "spikingjelly.activation_based.nir_exchange"

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        module: nn.Module = self.installed().import_from_nir(graph, dt=DT, step_mode="s")
        return module


class Sinabs(Engine):
    """sinabs runs whole sequences, batch first, node by node; its layers keep their state from call to call."""

    package = "sinabs"
    reader = "sinabs.nir"

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        module: nn.Module = self.installed().from_nir(graph, batch_size=batch_size)
        return module

    def steps(self, x: Tensor) -> Tensor:
        y, _ = self._module(x.transpose(0, 1).flatten(0, 1))
        return self.stacked([y], x)

    def stacked(self, values: list[Tensor], x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        return values[0].reshape(batch, steps, *values[0].shape[1:]).transpose(0, 1)


class Rockpool(Engine):
    """rockpool runs whole sequences, batch first. Its state between calls is that of the first sample alone."""

    package = "rockpool"
    reader = "rockpool.nn.modules.torch.nir"
    resumes = False

    def load(self, graph: nir.NIRGraph, batch_size: int) -> nn.Module:
        module: nn.Module = self.installed().from_nir(graph)
        return module

    def steps(self, x: Tensor) -> Tensor:
        y, _ = self._module(x.transpose(0, 1))
        return self.stacked([y], x)

    def stacked(self, values: list[Tensor], x: Tensor) -> Tensor:
        return values[0].transpose(0, 1)


ENGINES: dict[str, type[Engine]] = {
    "canonical": Executor,
    "norse": Norse,
    "snntorch": SnnTorch,
    "spikingjelly": SpikingJelly,
    "sinabs": Sinabs,
    "rockpool": Rockpool,
}
"""Name -> engine."""

READS: dict[str, tuple[str, ...]] = {
    "canonical": ("canonical",),
    "portable": ("canonical", "norse", "snntorch", "spikingjelly"),
    "norse": ("norse", "canonical"),
    "snntorch": ("snntorch", "canonical"),
    "spikingjelly": ("spikingjelly", "canonical"),
    "sinabs": ("sinabs",),
    "rockpool": ("rockpool",),
}
"""Dialect of a file -> engines that understand it, the usual one first."""


_INSTALL = {
    "norse": "norse>=1.1",
    "snntorch": "snntorch>=1.0",
    "spikingjelly": "spikingjelly>=2.0",
    "sinabs": 'sinabs==2.0.3" "nir>=1.0.8',  # later ones pin an older nir
    "rockpool": 'rockpool==3.1.0" "nir>=1.0.8',
}
"""Simulator -> what pip should be told."""


def _simulator(module: str) -> Any:
    """A simulator's reader; no extra of ours brings it."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{error.name!r} is not installed; the simulator comes with: pip install "{_INSTALL[package]}"'
        ) from error
