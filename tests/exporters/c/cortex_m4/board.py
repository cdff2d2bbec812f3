"""A Cortex-M4 without Python, in QEMU: compiles exported sources for it, runs them there, and measures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

COMPILER, MACHINE = "arm-none-eabi-gcc", "qemu-system-arm"
HERE = Path(__file__).parent
CPU = ("-mcpu=cortex-m4", "-mthumb", "-ffreestanding", "-nostartfiles", "-ffunction-sections", "-fdata-sections")
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra")
FLOAT = {"soft": ("-mfloat-abi=soft",), "hard": ("-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")}
PER_TICK = 40
"""Instructions."""

_MAIN = """
#include <string.h>
#include "board.h"
#include "net.h"
static const @X@ x[@STEPS@][NET_INPUTS] = {@GIVEN@};
static net_state s;
static @Y@ y[NET_OUTPUTS];
#ifdef NET_TRACE
static void spikes(const @S@ *from, int count) {
    static char line[@MOST@ + 2];
    for (int i = 0; i < count; i++) line[i] = from[i] != 0 ? '1' : '0';
    memcpy(line + count, "\\n", 2);
    say(line);
}
#endif
int main(void) {
#ifndef EMPTY
    net_reset(&s);
#ifndef NET_TRACE
    stack_mark();
#endif
    clock_start();
    for (int t = 0; t < @STEPS@; t++) {
        if (net_step(&s, x[t], y) != NET_OK) return 1;
#ifdef NET_TRACE
        @SPIKES@
        for (int i = 0; i < NET_OUTPUTS; i++) {
            uint32_t bits;
            memcpy(&bits, y + i, sizeof bits);
            say_number("y ", bits);
        }
#endif
    }
#ifndef NET_TRACE
    say_number("ticks ", clock_ticks());
    say_number("stack ", stack_used());
    say_number("state ", sizeof s);
    say_number("ends ", sizeof x[0] + sizeof y);
#endif
#endif
    return 0;
}
"""


@dataclass(frozen=True)
class Seen:
    """What came out of a run.

    Attributes:
        spikes: neuron layer -> (T, neurons), 0 or 1.
        y: (T, outputs), float32 or int32.
    """

    spikes: dict[str, np.ndarray[Any, Any]]
    y: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Measured:
    """What a network takes on the board.

    Attributes:
        flash: bytes of code and of numbers, with what is linked of the compiler's library.
        state: bytes of the struct, the room to work in among them.
        ends: bytes of one input and one output.
        stack: bytes, as deep as it reached.
        instructions: of one step, the mean.
    """

    flash: int
    state: int
    ends: int
    stack: int
    instructions: int

    @property
    def ram(self) -> int:
        """Bytes."""
        return self.state + self.ends + self.stack


def missing() -> str:
    """What is not installed, "" = nothing."""
    return ", ".join(tool for tool in (COMPILER, MACHINE) if shutil.which(tool) is None)


class Board:
    """One network, compiled for the board.

    Args:
        folder: to work in.
        sources: folder with net.c, net.h and net_weights.c.
        x: (T, features) as `net_step` takes it: float32 or int16.
        neurons: neuron layer -> (name in the trace, number of neurons).
        unit: "soft" or "hard": who computes with floating point.
    """

    def __init__(self, folder: Path, sources: Path, x: Any, neurons: dict[str, tuple[str, int]], unit: str) -> None:
        self._folder, self._sources, self._steps, self._neurons = folder, sources, len(x), neurons
        self._flags = (*CPU, *FLOAT[unit], *FLAGS, *(("-Werror",) if x.dtype.kind == "i" else ()))
        folder.mkdir(parents=True, exist_ok=True)
        self._whole = x.dtype.kind == "i"
        spelt = (str(v) if self._whole else f"{v.hex()}f" for v in x.ravel().tolist())
        rows = ", ".join(spelt)
        words = {
            "X": "int16_t" if self._whole else "float",
            "Y": "int32_t" if self._whole else "float",
            "S": "int32_t" if self._whole else "float",
            "STEPS": str(len(x)),
            "GIVEN": re.sub(rf"((?:[^,]+,){{{prod(x.shape[1:])}}})", r"{\1}, ", rows + ","),
            "MOST": str(max(count for _, count in neurons.values())),
            "SPIKES": " ".join(f"spikes(s.trace.{name}, {count});" for name, count in neurons.values()),
        }
        text = _MAIN
        for word, meaning in words.items():
            text = text.replace(f"@{word}@", meaning)
        (folder / "main.c").write_text(text)

    def run(self) -> Seen:
        """The spikes and outputs of every step."""
        lines = self._said(self._build("trace", "-DNET_TRACE")).split("\n")[:-1]
        numbers = [np.uint32(line.split()[1]) for line in lines if line.startswith("y")]
        y = np.array(numbers, np.uint32).view(np.int32 if self._whole else np.float32).reshape(self._steps, -1)
        rows = [np.array(list(map(int, line))) for line in lines if not line.startswith("y")]
        count = len(self._neurons)
        return Seen({name: np.stack(rows[k::count]) for k, name in enumerate(self._neurons)}, y)

    def measure(self) -> Measured:
        """What it takes."""
        full, empty = self._build("full"), self._build("empty", "-DEMPTY", "-Wno-error")
        said = dict(line.split() for line in self._said(full).split("\n")[:-1])
        ticks, stack, state, ends = (int(said[name]) for name in ("ticks", "stack", "state", "ends"))
        flash = _flash(full) - _flash(empty) - self._given_bytes()
        return Measured(flash, state, ends, stack, ticks * PER_TICK // self._steps)

    def _given_bytes(self) -> int:
        """Of the input, which lies in flash here."""
        found = subprocess.run(
            ["arm-none-eabi-nm", "-S", "full"], cwd=self._folder, capture_output=True, text=True, check=True
        ).stdout
        sizes = [int(line.split()[1], 16) for line in found.splitlines() if line.split()[-1] == "x"]
        return sum(sizes)

    def _build(self, name: str, *more: str) -> Path:
        sources = [str(self._sources / file) for file in ("net.c", "net_weights.c")]
        command = [COMPILER, *self._flags, *more, f"-I{self._sources}", f"-I{HERE}", "main.c", str(HERE / "board.c")]
        command += [*sources, "-T", str(HERE / "board.ld"), "-Wl,--gc-sections", "-lc", "-lm", "-lgcc", "-o", name]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
        return self._folder / name

    def _said(self, program: Path) -> str:
        command = [MACHINE, "-M", "mps2-an386", "-kernel", str(program), "-icount", "shift=0"]
        command += ["-display", "none", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"LC_ALL": "C"})
        assert done.returncode == 0, done.stderr[:2000]
        return done.stderr or done.stdout


def _flash(program: Path) -> int:
    """Code and constants."""
    done = subprocess.run(["arm-none-eabi-size", str(program)], capture_output=True, text=True, check=True)
    text, data, *_ = done.stdout.splitlines()[1].split()
    return int(text) + int(data)
