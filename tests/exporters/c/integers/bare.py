"""Integer networks of C in a program of their own, under every warning and sanitizer there is."""

from __future__ import annotations

import subprocess
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psu_deploy.exporters.c.integers.emit import emit
from psu_deploy.exporters.c.integers.sources import sources_of

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror")
SANITIZERS = ("-O0", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SAID = {"input_shape": [1], "output_shape": [1], "readout": "last", "static_input": False, "machine_hash": "0" * 64}

_MAIN = """
static int NAME(void) {
    static NAME_state s;
    static int16_t x[NAME_UPPER_INPUTS];
    static int32_t y[NAME_UPPER_OUTPUTS];
    for (int b = 0; b < BATCH; b++) {
        NAME_reset(&s);
        for (int t = 0; t < STEPS; t++) {
            if (fread(x, sizeof x, 1, stdin) != 1 || NAME_step(&s, x, y) != NAME_UPPER_OK) return 1;
            fwrite(&s, offsetof(NAME_state, trace) + sizeof s.trace, 1, stdout);
            fwrite(y, sizeof y, 1, stdout);
        }
    }
    return 0;
}
"""


class Seen(NamedTuple):
    """What every layer sent, (T, B, neurons), and every member of the struct after every step, (T, B, numbers)."""

    sent: list[np.ndarray]
    states: dict[str, np.ndarray]


def run(folder: Path, networks, inputs, flags=(*STRICT, *SANITIZERS)):
    """Name -> what was seen of a network; all of them in one program."""
    units, main, defines = [], ["#include <stdio.h>"], []
    for name, net in networks.items():
        for file, text in sources_of(net, SAID, Path(f"{name}.c")).items():
            (folder / file).write_bytes(text)
        units += [f"{name}.c", f"{name}_weights.c"]
        defines.append(f"-D{name.upper()}_TRACE")
        steps, batch = inputs[name].shape[:2]
        body = _MAIN.replace("NAME_UPPER", name.upper()).replace("NAME_", f"{name}_").replace("NAME(", f"run_{name}(")
        main += [f'#include "{name}.h"', body.replace("BATCH", str(batch)).replace("STEPS", str(steps))]
    calls = " ".join(f"if (run_{name}()) return 1;" for name in networks)
    (folder / "main.c").write_text("\n".join([*main, f"int main(void) {{ {calls} return 0; }}", ""]))
    command = ["gcc", *flags, *defines, "main.c", *units, "-o", "program"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[:4000]
    rows = [inputs[name].swapaxes(0, 1).astype(np.int16).tobytes() for name in networks]
    done = subprocess.run(["./program"], cwd=folder, input=b"".join(rows), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    found, said = {}, np.frombuffer(done.stdout, np.int32)
    for name, net in networks.items():
        steps, batch = inputs[name].shape[:2]
        sizes = [prod(layer.shape) for layer in net.layers]
        members = {"step": 2} if net.horizon is not None else {}
        members |= emit(net, name).members
        widths = [*members.values(), *sizes, sizes[-1]]
        count = batch * steps * sum(widths)
        part, said = said[:count].reshape(batch, steps, -1).swapaxes(0, 1), said[count:]
        *parts, y = np.split(part, np.cumsum(widths)[:-1], -1)
        sent = parts[len(members) :]
        np.testing.assert_array_equal(y, sent[-1])
        found[name] = Seen(sent, dict(zip(members, parts, strict=False)))
    assert not len(said)
    return found
