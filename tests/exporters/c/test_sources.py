"""The text itself: any C99 compiler takes it without a word, and it runs without Python."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c.emit import emit
from psu_deploy.exporters.c.target import FLAGS
from psu_deploy.exporters.c.weights import mapped
from psu_deploy.machine import Node, StateMachine, ops
from tests.exporters.c.conftest import compile_with, run_program, write
from tests.helpers import joined
from tests.test_zoo import fed, with_silence
from tests.zoo import MACHINES, NEURONS, chain, inputs, normal

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Wundef", "-Werror")
AS_USERS = " ".join(FLAGS)
SANITISED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.rows(4)
@pytest.mark.parametrize("name", MACHINES)
def test_a_strict_compiler_has_nothing_to_say(name, tmp_path):
    units = write(tmp_path, MACHINES[name])
    for trace in ((), ("-DNET_TRACE",)):
        assert compile_with(tmp_path, *STRICT, *trace, "-O1", "-c", *units) == ""


@pytest.mark.full
@pytest.mark.rows(3)
@pytest.mark.parametrize("name", [name for name in MACHINES if mapped(emit(MACHINES[name], "net"))])
def test_numbers_may_lie_in_a_file_of_their_own(name, tmp_path):
    machine, x = MACHINES[name], fed(MACHINES[name])
    path = psu.export(machine, tmp_path / "net.c", target="c", weights_file="bin").path
    assert psu.verify(machine, path, x, allow_silent=True).ok
    assert compile_with(tmp_path, *STRICT, "-O1", "-c", "net.c") == ""


@pytest.mark.full
@pytest.mark.rows(3)
@pytest.mark.parametrize("name", MACHINES)
def test_a_program_without_python_gives_the_same_bits(name, tmp_path):
    """And touches nothing that is not its own."""
    machine = MACHINES[name]
    runner = psu.load(psu.export(machine, tmp_path / "net.c", target="c"), flags="-O1")
    x = with_silence(machine, fed(machine))
    y = run_program(tmp_path, machine, x, *SANITISED)
    np.testing.assert_array_equal(y.reshape(joined(runner.run(x)).shape), joined(runner.run(x)))


@pytest.mark.full
@pytest.mark.parametrize("name", ["unfolded batch norm", "rpsu neuron"])
@pytest.mark.parametrize("weights", ["c", "bin"])
def test_the_program_on_the_page_runs(tmp_path, weights, name):
    """To the last step of a network that has one."""
    psu.export(MACHINES[name], tmp_path / "net.c", target="c", weights_file=weights)
    page = (tmp_path / "net.md").read_text()
    (tmp_path / "main.c").write_text(re.search(r"```c\n(.*?)```", page, re.DOTALL).group(1))
    command = re.search(r"\ncc (.*)\n", page).group(1).split()
    compile_with(tmp_path, *command, "-o", "main")
    assert subprocess.run([tmp_path / "main"], cwd=tmp_path, check=False).returncode == 0
    assert compile_with(tmp_path, *STRICT, "-c", "main.c", "net.c") == ""


@pytest.mark.full
def test_past_the_horizon_nothing_changes(tmp_path):
    machine = MACHINES["rpsu neuron"]
    units = write(tmp_path, machine)
    (tmp_path / "main.c").write_text(
        """#include "net.h"
#include <string.h>
static net_state s, before;
int main(void) {
    float x[NET_INPUTS] = {1, 2, 3}, y[NET_OUTPUTS];
    net_reset(&s);
    for (int t = 0; t < NET_HORIZON; t++) {
        if (net_step(&s, x, y) != NET_OK) { return 1; }
    }
    before = s;
    y[0] = 7.0f;
    if (net_step(&s, x, y) != NET_PAST_HORIZON) { return 2; }
    if (y[0] != 7.0f || memcmp(&s, &before, sizeof s) != 0) { return 3; }
    net_reset(&s);
    return net_step(&s, x, y);
}
"""
    )
    compile_with(tmp_path, *SANITISED, "main.c", *units, "-o", "main", "-lm")
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_a_compiler_that_may_reorder_sums_is_stopped(tmp_path):
    write(tmp_path, MACHINES["linear"])
    done = subprocess.run(
        ["cc", "-c", "-ffast-math", "net.c"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "leave it out" in done.stderr


def test_sums_are_in_the_order_that_the_header_says(exported):
    """Bias first, then one product after the other: the same bits, whatever is left out, however many rows at once."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((37, 90)).astype(np.float32)
    bias = random.standard_normal(37).astype(np.float32)
    runner = exported(chain((90,), ops.Linear(weight, bias)), flags=AS_USERS)
    for density in (0.0, 0.02, 0.1, 0.5, 1.0):
        x = random.standard_normal(90).astype(np.float32) * (random.random(90) < density)
        expected = bias.copy()
        for value, column in zip(x, weight.T, strict=True):
            expected = expected + value * column
        np.testing.assert_array_equal(runner.run(x[None, None].astype(np.float32))[0, 0], expected)


def test_the_sigmoid_is_off_by_less_than_it_says(exported):
    """Every 64th float32 that matters, both signs, and the ends."""
    size = 1 << 16
    bits = np.arange(0, 0x43000000, 0x43000000 // size, dtype=np.uint32)[:size]  # 0 to 128
    x = bits.view(np.float32)
    x = np.stack([x, -x, np.linspace(-20, 20, size), np.full(size, 3e38), np.full(size, -3e38)]).astype(np.float32)
    y = exported(chain((size,), ops.Activation("sigmoid")), flags=AS_USERS).run(x[:, None])[:, 0]
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-np.float64(x)))
    assert np.abs(y - expected).max() < 1e-7
    assert 0 <= y.min() <= y.max() <= 1


STRANGE = ["*/", "/* ??/", "int", "work", "0", "a b", "a_b", "net_step", "Größe\n#include", 'quote"\\', "x" * 300]


@pytest.mark.full
def test_layers_may_be_called_anything(tmp_path):
    nodes, before = [], "x"
    for name in STRANGE:
        nodes.append(Node(name, NEURONS["rpsu"], (before,)))
        before = name
    machine = StateMachine((*nodes, Node("y", ops.Linear(normal(2, 3)), (before,))), (3,))
    units = write(tmp_path, machine)
    assert compile_with(tmp_path, *STRICT, "-DNET_TRACE", "-O0", "-c", *units) == ""
    runner = psu.load(psu.export(machine, tmp_path / "net.c", target="c"))
    assert psu.verify(machine, runner, inputs(machine, 6, 2), allow_silent=True).ok
    assert [layer.name for layer in runner.contents.layers] == [*STRANGE, "y"]


@pytest.mark.full
@pytest.mark.parametrize(("stem", "prefix"), [("my-net", "my_net"), ("3 nets", "net_3_nets"), ("a.b", "a_b")])
def test_files_may_be_called_most_things(tmp_path, stem, prefix):
    machine = MACHINES["psu neuron"]
    runner = psu.load(psu.export(machine, tmp_path / f"{stem}.c", target="c"))
    np.testing.assert_array_equal(runner.run(fed(machine)), machine.run(fed(machine)))
    assert f"{prefix}_state" in (tmp_path / f"{stem}.h").read_text()


@pytest.mark.parametrize("name", ['a"b.c', "a\\b.c", "größe.c"])
def test_names_that_no_include_can_hold(tmp_path, name):
    with pytest.raises(psu.InputError, match="the name of a C file must be of letters"):
        psu.export(MACHINES["linear"], tmp_path / name, target="c")
    assert not list(tmp_path.iterdir())


def test_what_lies_between_layers_shares_its_room(tmp_path):
    """A chain of any length needs room for two of them."""
    (tmp_path / "deep").mkdir()
    layers = [ops.Linear(normal(64, 64, seed=i)) for i in range(8)]
    write(tmp_path, chain((64,), *layers))
    found = re.search(r"float values\[(\d+)\]", (tmp_path / "net.h").read_text())
    assert int(found.group(1)) == 128


def test_a_number_that_float32_cannot_hold(tmp_path):
    machine = chain((2,), ops.Linear(np.array([[1e39, 1.0]])))
    with pytest.raises(psu.UnsupportedModelError, match="float32 has no room"):
        psu.export(machine, tmp_path / "net.c", target="c")
