"""Times training steps of neuron layers side by side, and counts what they keep for backward."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

BATCH, FEATURES = 32, 512

Make = Callable[[int], nn.Module | None]

Times = dict[str, list[float]]
"""Neuron -> milliseconds of a training step, one number per round."""


class Training:
    """One neuron, and what a training step of it needs."""

    def __init__(self, neuron: nn.Module, steps: int, device: str) -> None:
        self.neuron = neuron.to(device)
        self.x = torch.randn(steps, BATCH, FEATURES, device=device).requires_grad_()
        self.gradient = torch.randn(steps, BATCH, FEATURES, device=device)

    def step(self) -> None:
        """Forward and backward."""
        self.x.grad = None
        self.neuron.zero_grad(set_to_none=True)
        self.neuron(self.x).backward(self.gradient)

    def milliseconds(self, repeats: int) -> float:
        """Of one step."""
        if self.x.device.type == "cuda":
            return _on_gpu(self.step, repeats)
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        for _ in range(repeats):
            self.step()
        return (clock() - start) / repeats * 1e3

    def kept(self) -> float:
        """Bytes that forward keeps for backward, over those of the input; parameters and buffers do not count."""
        known = {t.untyped_storage().data_ptr() for t in (*self.neuron.parameters(), *self.neuron.buffers())}
        sizes: dict[int, int] = {}
        alive: list[Tensor] = []  # no two storages shall have the same place

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            alive.append(tensor)
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = self.neuron(self.x)
        del result
        return sum(size for place, size in sizes.items() if place not in known) / self.x.untyped_storage().nbytes()


def _on_gpu(step: Callable[[], None], repeats: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        step()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop)) / repeats


class Floor(nn.Module):
    """Not a neuron: what any must read and write. Forward reads I, writes S; backward reads dS and I, writes dI."""

    def forward(self, x: Tensor) -> Tensor:
        return _Floor.apply(x)


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.neg()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


def rounds_of(
    makers: dict[str, Make], steps: int, rounds: int, time_steps: int, device: str
) -> tuple[Times, dict[str, float]]:
    """Time neurons over so many steps, interleaved round by round.

    Args:
        makers: name -> what makes the neuron; None from it = not installed, left out.
        steps: T.
        rounds: how many.
        time_steps: per round and neuron, so `time_steps / T` training steps.
        device: "cpu" or "cuda".

    Returns:
        Milliseconds, and what forward keeps for backward in sizes of the input.
    """
    torch.manual_seed(0)
    made = {name: make(steps) for name, make in makers.items()}
    trained = {name: Training(n, steps, device) for name, n in made.items() if n is not None}
    for one in trained.values():
        one.step()
    times: Times = {name: [] for name in trained}
    for turn in range(rounds):
        print(f"T = {steps}, round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, one in trained.items():
            times[name].append(one.milliseconds(max(1, time_steps // steps)))
    return times, {name: one.kept() for name, one in trained.items()}
