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

from psu_deploy.exporters.c import sources as floats
from psu_deploy.exporters.c.integers import sources as integers

_READ = """
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
            self._read = _compiled(_READ, Path(folder)).read_all
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


class Rows:
    """The functions of exported C that add up the rows of weights of what fired, in float32 and in eight bits."""

    def __init__(self, folder: Path) -> None:
        begin, whole = integers.fixed_text("begin.c", "whole"), integers.fixed_text("add_rows.c", "whole")
        real = floats.fixed_text("rows.c", "real").partition("/* y +=")[2].replace("REAL_PREFETCH", "WHOLE_PREFETCH")
        types = "typedef int32_t whole_sum;\ntypedef uint16_t whole_place;\n"
        self._library = _compiled(f"#include <stdint.h>\n{types}{begin}{whole}/*{real}{_ROWS}", folder)

    def microseconds(self, inputs: int, outputs: int, firing: int, rounds: int) -> dict[str, list[float]]:
        """Of so many rows of a layer, other ones every time, round by round."""
        random = np.random.default_rng(0)
        places = np.stack([np.sort(random.permutation(inputs)[:firing]) for _ in range(100)]).astype(np.int32)
        rows = random.integers(-127, 128, (inputs, outputs)).astype(np.float32)
        x, found = np.ones(inputs, np.float32), np.zeros(outputs, np.float32)
        whole, short, sums = rows.astype(np.int8), places.astype(np.uint16), np.zeros(outputs, np.int32)
        ways = {
            "float32": lambda: self._library.real_rows(*map(_at, (found, rows, x, places)), outputs, firing, 100),
            "int8": lambda: self._library.whole_rows(*map(_at, (sums, whole, short)), outputs, firing, 100),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.process_time()
                for _ in range(10):
                    way()
                if number:
                    times[name].append((time.process_time() - start) / 1000 * 1e6)
        return times


_ROWS = """
void real_rows(float *y, const float *rows, const float *x, const int *places, int size, int count, int times) {
    for (int k = 0; k < times; k++) real_add_rows(y, size, rows, x, places + k * count, count);
}
void whole_rows(int32_t *y, const int8_t *rows, const uint16_t *places, int size, int count, int times) {
    for (int k = 0; k < times; k++) whole_add_rows(y, size, rows, places + k * count, count);
}
"""


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _compiled(text: str, folder: Path) -> ctypes.CDLL:
    source, library = folder / "floor.c", folder / "floor.so"
    source.write_text(text)
    subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def touched(inputs: Sequence[np.ndarray], outputs: Sequence[int], item: int = 4) -> float:
    """Bytes of the rows that one step reads, on average.

    Args:
        inputs: what each layer of weights is fed, (T, B, n).
        outputs: width of each.
        item: bytes of a weight.
    """
    steps = inputs[0].shape[0] * inputs[0].shape[1]
    return sum(np.count_nonzero(x) / steps * width * item for x, width in zip(inputs, outputs, strict=True))
