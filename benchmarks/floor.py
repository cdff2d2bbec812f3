"""What no program can beat: reading the weights of the neurons that fired, at the speed at which this core reads."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

_SOURCE = """
#include <stddef.h>
float read_all(const float *restrict x, size_t n) {
    float sums[64] = {0};
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (size_t k = 0; k < 64; k++) sums[k] += x[i + k];
    float sum = 0;
    for (size_t k = 0; k < 64; k++) sum += sums[k];
    return sum;
}
"""


class Reader:
    """Reads memory from its beginning to its end."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "read.c", Path(folder) / "read.so"
            source.write_text(_SOURCE)
            subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
            self._read = ctypes.CDLL(str(library)).read_all
        self._read.argtypes, self._read.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_float

    def bytes_per_second(self, size: int, rounds: int = 15) -> float:
        """Median over rounds, of so many bytes read again and again."""
        x = np.ones(size // 4, np.float32)
        repeats, speeds = max(1, 200_000_000 // size), []
        self._read(x.ctypes.data, x.size)
        for _ in range(rounds):
            start = time.process_time()
            for _ in range(repeats):
                self._read(x.ctypes.data, x.size)
            speeds.append(repeats * x.nbytes / (time.process_time() - start))
        return median(speeds)


def touched(inputs: Sequence[np.ndarray], outputs: Sequence[int], item: int = 4) -> float:
    """Bytes of the rows that one step reads, on average.

    Args:
        inputs: what each layer of weights is fed, (T, B, n).
        outputs: width of each.
        item: bytes of a weight.
    """
    steps = inputs[0].shape[0] * inputs[0].shape[1]
    return sum(np.count_nonzero(x) / steps * width * item for x, width in zip(inputs, outputs, strict=True))
