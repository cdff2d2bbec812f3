"""Exports, and programs without Python that call them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c import compiler
from psu_deploy.exporters.c.emit import emit
from psu_deploy.exporters.c.sources import sources_of
from psu_deploy.exporters.c.target import FLAGS

EXACT = ("-std=c99", "-ffp-contract=off")

MAIN = """#include "net.h"
#include <stdio.h>
static net_state states[{batch}];
int main(void) {{
    static float x[NET_INPUTS], y[NET_OUTPUTS];
    for (int b = 0; b < {batch}; b++) {{
        net_reset(&states[b]);{number}
    }}
    for (int row = 0; fread(x, sizeof x, 1, stdin) == 1; row++) {{
        if (net_step(&states[row % {batch}], x, y) != NET_OK) {{
            return 1;
        }}
        fwrite(y, sizeof y, 1, stdout);
    }}
    return 0;
}}
"""
"""A row of x after the other in, a row of y after the other out."""


def write(folder: Path, machine) -> list[str]:
    """The files of an export that nothing has run yet, and those to compile."""
    for name, content in sources_of(machine, emit(machine, "net"), Path("net.c")).items():
        (folder / name).write_bytes(content)
    return ["net.c", "net_weights.c"]


def compile_with(folder: Path, *words: str) -> str:
    """What the compiler says."""
    done = subprocess.run(["cc", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def run_program(folder: Path, machine, x: np.ndarray, *flags: str) -> np.ndarray:
    """(T, B, outputs), of an executable that a C compiler makes of an export."""
    number = "\n        states[b].sample = b;" if "int64_t sample" in (folder / "net.h").read_text() else ""
    (folder / "main.c").write_text(MAIN.format(batch=x.shape[1], number=number))
    compile_with(folder, *EXACT, *flags, "main.c", "net.c", "net_weights.c", "-o", "main", "-lm")
    done = subprocess.run([folder / "main"], input=x.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.float32).reshape(*x.shape[:2], -1)


@pytest.fixture(autouse=True, scope="session")
def _quick_compilers():
    """Compilers take half as long; `tests/test_zoo.py` has all machines with the flags that users get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "FLAGS", ("-O1", *FLAGS[1:]))
        yield


@pytest.fixture
def exported(tmp_path):
    """Export a machine and open the files."""
    return lambda machine, **options: psu.load(psu.export(machine, tmp_path / "net.c", target="c"), **options)
