"""Neurons shared out among threads, as many as torch may use: they know nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

PER_THREAD = 1 << 16
"""Numbers; with fewer, waking a thread costs more than it computes."""

_pool: ThreadPoolExecutor | None = None


GRAIN = 64
"""Neurons: blocks are multiples of it."""


def share_out(columns: int, numbers: int, most: int, run: Callable[[int, int, int], object]) -> None:
    """Call `run(first, last, block)` for all columns, in parts of about the same size, each of whole blocks.

    Args:
        columns: how many there are.
        numbers: in all of them together.
        most: columns of a block.
        run: releases the interpreter's lock. The caller's own thread runs one part.
    """
    parts = max(1, min(torch.get_num_threads(), numbers // PER_THREAD))
    block = min(most, -(-columns // parts // GRAIN) * GRAIN)
    per_part = -(-columns // block // parts) * block
    edges = [(start, min(start + per_part, columns), block) for start in range(0, columns, per_part)]
    others = [(part, _threads().submit(run, *part)) for part in edges[1:]]
    run(*edges[0])
    for part, other in others:
        if other.cancel():  # no thread has come to it: the machine is busy
            run(*part)
        else:
            other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), "psu_deploy")
    return _pool


def _forget() -> None:
    """Threads do not live on in a forked process; it starts its own when it needs them."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget)
