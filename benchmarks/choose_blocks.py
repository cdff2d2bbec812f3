"""Time of the products of a causal matrix by the size of their tiles: the choice made in `nn/temporal/product.py`.

For a triangle and a band of 32, (T, 32, 512) float32: both products and the gradient of the matrix, in CPU seconds of
one thread (on a GPU by its clock), medians over interleaved rounds, over the time of the same with the whole matrix.

    python benchmarks/choose_blocks.py [--rounds 5] [--lengths 64 256 1024] [--device cuda]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product as pairs
from statistics import median

import torch
from torch import Tensor

from psu_deploy.nn.temporal import product
from psu_deploy.nn.temporal.product import Band, causal_product

COLUMNS = 32 * 512
ROWS = (32, 64, 128, 256)
WIDTHS = (512, 1024, 2048, COLUMNS)
WHOLE = (0, 0)


def train(multiply: Callable[[Tensor, Tensor], Tensor], matrix: Tensor, x: Tensor, gradient: Tensor) -> None:
    """Forward and backward."""
    matrix.grad = x.grad = None
    multiply(matrix, x).backward(gradient)


def tiled(rows: int, width: int, band: Band) -> Callable[[Tensor, Tensor], Tensor]:
    """The product with tiles of that size, and for its backward too."""

    def multiply(matrix: Tensor, x: Tensor) -> Tensor:
        product.NARROW = product.WIDE = rows
        product.WIDTH = width
        side = band.side(len(x))
        return causal_product(matrix[:side, :side], x, band)

    return multiply


def seconds(call: Callable[[], None], device: str) -> float:
    """Of one call."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(T: int, order: int | None, rounds: int, device: str) -> None:
    """Print how much faster each size is than the whole matrix."""
    band = Band(T) if order is None else Band(min(order, T), invariant=True)
    matrix = torch.randn(T, T, device=device).tril().requires_grad_()
    x = torch.randn(T, COLUMNS, device=device).requires_grad_()
    gradient = torch.randn(T, COLUMNS, device=device)
    sizes = [(rows, width) for rows, width in pairs(ROWS, WIDTHS if device == "cpu" else WIDTHS[-1:]) if rows < T]
    kinds = {WHOLE: torch.matmul} | {size: tiled(*size, band) for size in sizes}
    times: dict[tuple[int, int], list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind, multiply in kinds.items():
            times[kind].append(seconds(partial(train, multiply, matrix, x, gradient), device))
    whole = times.pop(WHOLE)[1:]
    print(f"\nT = {T}, {'triangle' if order is None else f'band of {order}'}: {median(whole) * 1e3:.2f} ms")
    for (rows, width), own in times.items():
        gain = median(a / b for a, b in zip(whole, own[1:], strict=True))
        print(f"  rows {rows:4d}, columns {width:6d}  {gain:5.2f}x")


def main() -> None:
    """Print a table for each band and length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for T, order in pairs(given.lengths, (None, 32)):
        measure(T, order, given.rounds, given.device)


if __name__ == "__main__":
    main()
