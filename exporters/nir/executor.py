"""Our own executor: the NIR specification by forward Euler, on nirtorch's graph engine.

Several of nirtorch's own mappings are wrong or missing (its Affine loses the bias, Flatten merges the batch, SumPool2d
ignores padding, there is no Scale, Threshold, LI or Delay), so every node type is mapped here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import nir
import nirtorch
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.errors import ArtifactError
from psu_deploy.machine.ops.fields import Array


def to_torch(graph: nir.NIRGraph, dt: float) -> nn.Module:
    """A graph as a module that does one step, `(x, state) -> (y, state)`.

    Args:
        graph: checked; see `psu_deploy.exporters.nir.files.read_graph`.
        dt: seconds per step.
    """
    mapping = {kind: functools.partial(make, dt=dt) for kind, make in _MODULES.items()}
    unknown = sorted({type(node).__name__ for node in graph.nodes.values()} - {kind.__name__ for kind in mapping})
    if unknown:
        raise ArtifactError(f"our executor has no module for {', '.join(unknown)}")
    module: nn.Module = nirtorch.nir_to_torch(graph, mapping, default_map={})
    return module


class Apply(nn.Module):
    """A function of the input and some constants."""

    def __init__(self, function: Callable[..., Tensor], **constants: Any) -> None:
        super().__init__()
        self._function = function
        for name, value in constants.items():
            self.register_buffer(name, _tensor(value))
        self._names = tuple(constants)

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x, *(getattr(self, name) for name in self._names))


class Euler(nn.Module):
    """`v = decay*v + gain*x + drift`; with a threshold `spike = v > threshold`, then `v = v_reset` where it spiked."""

    decay: Tensor
    gain: Tensor
    drift: Tensor
    v_reset: Tensor
    threshold: Tensor | None

    def __init__(self, decay: Array, gain: Array, drift: Array, threshold: Any = None, v_reset: Any = 0.0) -> None:
        super().__init__()
        for name, value in (("decay", decay), ("gain", gain), ("drift", drift), ("v_reset", v_reset)):
            self.register_buffer(name, _tensor(value))
        self.register_buffer("threshold", None if threshold is None else _tensor(threshold))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        before = torch.zeros_like(x) if state is None else state
        v = self.decay * before + self.gain * x + self.drift
        if self.threshold is None:
            return v, v
        spikes = (v > self.threshold).to(v.dtype)
        # Nothing is added to the reset but zero: an overflow, which would be forgotten here, stays one in the state.
        return spikes, torch.where(spikes > 0, self.v_reset.to(v.dtype) + 0 * v, v)


class Cuba(nn.Module):
    """A synaptic current in front of a membrane."""

    def __init__(self, synapse: Euler, membrane: Euler) -> None:
        super().__init__()
        self.synapse = synapse
        self.membrane = membrane

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        current, synapse = self.synapse(x, None if state is None else state[0])
        out, membrane = self.membrane(current, None if state is None else state[1])
        return out, (synapse, membrane)


class Line(nn.Module):
    """A delay line with its own number of steps for every entry. The state is the last inputs, the newest first."""

    steps: Tensor

    def __init__(self, steps: Array) -> None:
        super().__init__()
        self.register_buffer("steps", torch.from_numpy(np.asarray(steps, dtype=np.int64)))
        self.length = int(steps.max()) + 1

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        before = x.new_zeros(self.length - 1, *x.shape) if state is None else state
        line = torch.cat([x[None], before])
        steps = self.steps.to(torch.int64).expand(1, *x.shape)
        return line.gather(0, steps)[0], line[: self.length - 1]


def _end(node: nir.Input | nir.Output, dt: float) -> nn.Identity:
    return nn.Identity()


def _scale(node: nir.Scale, dt: float) -> Apply:
    return Apply(torch.mul, scale=node.scale)


def _threshold(node: nir.Threshold, dt: float) -> Apply:
    return Apply(lambda x, level: (x > level).to(x.dtype), level=node.threshold)


def _li(node: nir.LI, dt: float) -> Euler:
    return Euler(1 - dt / node.tau, node.r * dt / node.tau, node.v_leak * dt / node.tau)


def _lif(node: nir.LIF, dt: float) -> Euler:
    rate = dt / node.tau
    return Euler(1 - rate, node.r * rate, node.v_leak * rate, node.v_threshold, node.v_reset)


def _integrator(node: nir.I | nir.IF, dt: float) -> Euler:
    ones, zeros = np.ones_like(node.r), np.zeros_like(node.r)
    if isinstance(node, nir.I):
        return Euler(ones, node.r * dt, zeros)
    return Euler(ones, node.r * dt, zeros, node.v_threshold, node.v_reset)


def _cuba(node: nir.CubaLI | nir.CubaLIF, dt: float) -> Cuba:
    synapse, rate = dt / node.tau_syn, dt / node.tau_mem
    fires = (node.v_threshold, node.v_reset) if isinstance(node, nir.CubaLIF) else ()
    membrane = Euler(1 - rate, node.r * rate, node.v_leak * rate, *fires)
    return Cuba(Euler(1 - synapse, node.w_in * synapse, np.zeros_like(synapse)), membrane)


def _delay(node: nir.Delay, dt: float) -> Line:
    return Line(np.rint(node.delay / dt))


def _linear(node: nir.Affine | nir.Linear, dt: float) -> Apply:
    bias = {"bias": node.bias} if isinstance(node, nir.Affine) else {}
    return Apply(F.linear, weight=node.weight, **bias)


def _conv(node: nir.Conv1d | nir.Conv2d, dt: float) -> Apply:
    convolve: Callable[..., Tensor] = F.conv1d if isinstance(node, nir.Conv1d) else F.conv2d
    settings = {name: _setting(getattr(node, name)) for name in ("stride", "padding", "dilation")}
    groups = int(node.groups)
    return Apply(
        lambda x, weight, bias: convolve(x, weight, bias, groups=groups, **settings),
        weight=node.weight,
        bias=node.bias,
    )


def _pool(node: nir.SumPool2d | nir.AvgPool2d, dt: float) -> Apply:
    kernel, stride, padding = (_setting(value) for value in (node.kernel_size, node.stride, node.padding))
    divisor = 1 if isinstance(node, nir.SumPool2d) else None
    return Apply(lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor))


def _flatten(node: nir.Flatten, dt: float) -> nn.Flatten:
    """NIR counts axes without the batch."""
    axes = (int(axis) + 1 if axis >= 0 else int(axis) for axis in (node.start_dim, node.end_dim))
    return nn.Flatten(*axes)


def _setting(value: Any) -> Any:
    """A number, a tuple of numbers, or "same"."""
    if isinstance(value, str | bytes):
        return value.decode() if isinstance(value, bytes) else value
    array = np.asarray(value)
    return int(array) if array.ndim == 0 else tuple(int(n) for n in array)


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float32))


_MODULES: dict[type, Callable[..., nn.Module]] = {
    nir.Input: _end,
    nir.Output: _end,
    nir.Affine: _linear,
    nir.Linear: _linear,
    nir.Scale: _scale,
    nir.Threshold: _threshold,
    nir.Conv1d: _conv,
    nir.Conv2d: _conv,
    nir.SumPool2d: _pool,
    nir.AvgPool2d: _pool,
    nir.Flatten: _flatten,
    nir.Delay: _delay,
    nir.LI: _li,
    nir.I: _integrator,
    nir.IF: _integrator,
    nir.LIF: _lif,
    nir.CubaLI: _cuba,
    nir.CubaLIF: _cuba,
}
"""Type of a node -> the module of (node, dt) that does one step of it."""
