"""Every number of the C is that of Python's own integers, and no operation of it is undefined."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from psu_deploy.exporters.c.integers.emit import emit
from psu_deploy.exporters.c.integers.sources import fixed_text, sources_of
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.integers.reference import Reference
from tests.exporters.c.integers import bare, networks
from tests.exporters.c.integers.networks import STATE_MAX
from tests.exporters.integers import integers

pytestmark = pytest.mark.full

T, B = 6, 2


def _held(folder, nets, states=True):
    inputs = {name: networks.given(net, T, B, seed) for seed, (name, net) in enumerate(nets.items())}
    found = bare.run(folder, nets, inputs)
    for name, net in nets.items():
        expected = networks.run(net, inputs[name])
        for part, sent, wanted in zip(net.layers, found[name].sent, expected, strict=True):
            np.testing.assert_array_equal(sent.reshape(wanted.shape), wanted, err_msg=f"{name}, {part.name}")
        if states:
            _states_held(net, inputs[name], found[name].states)
    return inputs


def _states_held(net, x, states):
    """Every number that lasts, after every step: the reference keeps what is due in order, C in a ring."""
    kept = [[] for _ in net.layers]
    Reference(net, B).advance(x, lambda index, state: kept[index].append(dict(state)))
    seen = set()
    for part, rows in zip(net.layers, kept, strict=True):
        name = re.sub(r"[^A-Za-z0-9_]", "_", part.name)
        for role in rows[0]:
            wanted = np.stack([row[role] for row in rows])
            found = states.get(member := f"{name}_{role.upper()}", np.zeros((T, B, 0)))
            if f"{member}_head" in states and wanted.size:
                ring = found.reshape(T, B, *part.shape, wanted.shape[2])
                head = states[f"{member}_head"]
                places = (head.reshape(T, B, *[1] * (ring.ndim - 2)) + np.arange(ring.shape[-1])) % ring.shape[-1]
                found = np.moveaxis(np.take_along_axis(ring, places, -1), -1, 2)
            np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, err_msg=member)
            seen |= {member, f"{member}_head"}
    assert set(states) <= {*seen, "step"}


def test_input_beyond_its_code_is_cut(tmp_path):
    nets = {name: net for name, net in networks.quiet() if name != "images"}
    inputs = {name: 4 * networks.given(net, T, B) - 3 for name, net in nets.items()}
    found = bare.run(tmp_path, nets, inputs, flags=("-std=c99",))
    for name, net in nets.items():
        expected = Reference(net, B).advance(inputs[name].clip(net.code.low, net.code.high))
        np.testing.assert_array_equal(found[name].sent[-1].reshape(expected[-1].shape), expected[-1])


def test_every_kind_of_layer(tmp_path):
    nets = dict(networks.quiet())
    inputs = _held(tmp_path, nets)
    for name, net in nets.items():
        sent = Reference(net, B).advance(inputs[name])
        assert all(part.any() for part in sent), name  # a silent layer tells nothing


def test_numbers_as_large_as_they_get(tmp_path):
    nets = {f"n{seed}": networks.loud(seed) for seed in range(2)}
    assert all(emit(net, "n").wide for net in nets.values())
    _held(tmp_path, nets)


@pytest.mark.nightly
@pytest.mark.parametrize("start", range(2, 56, 9))
def test_many_more(tmp_path, start):
    _held(tmp_path, {f"n{seed}": networks.loud(seed) for seed in range(start, start + 9)})


@pytest.mark.parametrize(("count", "size"), [(5, 3), (256, 256), (257, 300), (900, 700)])
@pytest.mark.parametrize("weight", [127, -127, None])
def test_many_rows_of_bytes(tmp_path, count, size, weight):
    """The sums of rows, of which all but the last 16 bits would be lost if too many were added in as many."""
    random = np.random.default_rng(0)
    rows = random.integers(-127, 128, (1000, size)) if weight is None else np.full((1000, size), weight)
    rows, places = rows.astype(np.int8), np.sort(random.permutation(1000)[:count]).astype(np.uint16)
    sums = random.integers(-1000, 1000, size).astype(np.int32)
    wanted = sums + rows[places].sum(0, dtype=np.int32)
    text = fixed_text("begin.c", "net") + fixed_text("add_rows.c", "net").replace("static void", "void", 1)
    types = "#include <stdint.h>\ntypedef int32_t net_sum;\ntypedef uint16_t net_place;\n"
    (tmp_path / "rows.c").write_text(types + text)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "rows.c", "-o", "rows.so"], cwd=tmp_path, check=True)
    add_rows = ctypes.CDLL(str(tmp_path / "rows.so")).net_add_rows
    at = [ctypes.c_void_p(array.ctypes.data) for array in (sums, rows, places)]
    add_rows(at[0], size, *at[1:], count)
    np.testing.assert_array_equal(sums, wanted)


def test_layers_may_be_called_anything(tmp_path):
    n = networks.Numbers(0)
    names = (
        "int",
        "a",
        "a_V",
        "V_bias",
        "weight",
        "layer",
        "layer_a",
        "step",
        "work",
        "*/",
        "\u00e9 ??/",
        "1",
        "1",
        "L" * 90,
        "",
    )
    layers = [networks.layer(n.dense(8), n.psu(n.sums(1, 3)), 8, name=name) for name in names]
    _held(tmp_path, {"net": networks.network(layers, (8,))}, states=False)


def test_what_rounds(tmp_path):
    """Products and shifts at the ends of their ranges, and between: Python's own integers, floored or cut."""
    random = np.random.default_rng(0)
    ends = [-STATE_MAX, -4097, -4096, -1, 0, 1, 4095, 4096, STATE_MAX]
    x = np.concatenate([ends, random.integers(-STATE_MAX, STATE_MAX + 1, 400)])
    factor = np.resize([-4096, 4096, -1, 1, -4095, 2048, 1000, -3], len(x))
    shift = np.resize(np.arange(31), len(x))
    texts = "".join(fixed_text(f"{name}.c", "net") for name in ("saturate", "multiply", "shifted", "shifted_wide"))
    names = ("floor", "argument", "argument_wide", "sigmoid")
    sigmoid = "".join(fixed_text(f"{name}.c", "net") for name in names)
    sigmoid = sigmoid.replace("/*KNOTS*/", ", ".join(map(str, integers.KNOTS)))
    rows = ", ".join(f"{{{a}, {b}, {c}}}" for a, b, c in zip(x, factor, shift, strict=True))
    calls = "net_multiply(x, f), net_shifted(x, s), net_shifted_wide((int64_t)x * f, s)"
    wide, short = "net_sigmoid(net_argument_wide(x, 2 * f, s))", "net_sigmoid(net_argument(x, 2 * f, s < 12 ? 12 : s))"
    calls += f", {wide}, s < 12 ? {wide} : {short}"
    (tmp_path / "main.c").write_text(
        f"#include <stdint.h>\n#include <stdio.h>\n{texts}{sigmoid}\nstatic const int32_t rows[][3] = {{{rows}}};\n"
        f"int main(void) {{ for (unsigned i = 0; i < {len(x)}; i++) {{ const int32_t x = rows[i][0], f = rows[i][1], "
        f's = rows[i][2]; printf("%d %d %d %d %d\\n", {calls}); }} return 0; }}'
    )
    subprocess.run(["gcc", *bare.STRICT, *bare.SANITIZERS, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], np.int64)
    table = np.ones(1, np.int64)
    for row, given in zip(found.tolist(), zip(x.tolist(), factor.tolist(), shift.tolist(), strict=True), strict=True):
        a, f, s = given
        estimated = integers.estimated(ir.Table(2 * f * table, s * table), a, 0)
        cut = [integers.times(a, f), integers.times(a, 1, s), integers.clamp(integers.times(a, f, s))]
        assert row == [*cut, estimated, estimated], given


def test_no_floating_point_and_no_library(tmp_path):
    for name, net in networks.quiet():
        for file, content in sources_of(net, bare.SAID, Path(f"{name}.c")).items():
            (tmp_path / file).write_bytes(content)
        text = (tmp_path / f"{name}.c").read_text().partition("/* What psu-deploy")[0]
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(r"\b(float|double|malloc|alloca)\b|\d\.\d", code)
        assert "memset(w->" not in code  # of an array GCC warns where its length is the number of bytes
        assert set(re.findall(r"#include [<\"](.*)[>\"]", code)) == {f"{name}.h", "string.h"}
    subprocess.run(["gcc", "-std=c99", "-O2", "-c", f"{name}.c", "-o", "net.o"], cwd=tmp_path, check=True)
    undefined = subprocess.run(["nm", "-u", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert {word for word in undefined.split() if word != "U" and not word.startswith(name)} <= {"memset"}
