"""What is drawn: small SVG in the page's own colours, and a graph in which no line runs through a stranger's dot."""

from __future__ import annotations

import re

import numpy as np
import pytest

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.report.diagram import LANE, LEFT, ROW, TOP, diagram
from psu_deploy.report.figures.canvas import FIRST, draw, for_page, powers_of_ten, thinned
from psu_deploy.report.words import multiple, percent


def branching(seed):
    """A random graph of ten layers, each reading one or two of those before it."""
    random = np.random.default_rng(seed)
    names = ["x"]
    nodes = []
    for index in range(10):
        inputs = tuple(names[i] for i in sorted({random.integers(len(names)), random.integers(len(names))}))
        layer = (
            ops.Add() if len(inputs) > 1 else ops.Flatten() if index % 2 else ops.LIFNeuron(2.0, True, 0.3, "hard", ">")
        )
        nodes.append(Node(f"n{index}", layer, inputs))
        names.append(f"n{index}")
    return StateMachine(tuple(nodes), (3,))


def columns(path):
    """Row between two layers -> x of a line there; its last row is where it may bend."""
    x, y, bend, to_x, to_y = re.fullmatch(r"M(\d+) (\d+)V(\d+)(?:C\d+ \d+ (\d+) \d+ \4 )?V?(\d+)", path).groups()
    start, end = ((int(value) - TOP) // ROW for value in (y, to_y))
    assert int(bend) == TOP + (end - 1) * ROW
    return start, end, int(x), int(to_x or x)


@pytest.mark.parametrize("seed", range(12))
def test_no_line_runs_through_another_layer(seed):
    machine = branching(seed)
    found = diagram(machine)
    at = {row.name: (row.x, (row.y - TOP) // ROW) for row in found.rows}
    assert [row.name for row in found.rows] == ["x", *(node.name for node in machine.nodes)]
    assert all((row.x - LEFT) % LANE == 0 for row in found.rows)
    drawn = {columns(wire.path): wire.spikes for wire in found.wires}
    pairs = [(one, node.name) for node in machine.nodes for one in node.inputs]
    expected = {(at[one][1], at[other][1], at[one][0], at[other][0]): one in machine.binary for one, other in pairs}
    assert drawn == expected
    for start, end, x, _ in drawn:
        assert not [row for row in found.rows if start < (row.y - TOP) // ROW < end and row.x == x]


def test_a_very_long_network_is_cut():
    nodes = [Node("n0", ops.Flatten(), ("x",))]
    nodes += [Node(f"n{i}", ops.Flatten(), (f"n{i - 1}",)) for i in range(1, 150)]
    found = diagram(StateMachine(tuple(nodes), (3,)))
    assert len(found.rows) + found.left_out == 151
    assert found.rows[-1].name == "n119"


def test_a_drawing_is_small_and_has_no_ids_of_others():
    svg = draw("k", lambda axes: axes.plot([0, 1, 2], [0.123456, 1, 0], color=FIRST))
    assert svg.startswith("<svg ")
    assert len(svg) < 6000
    assert "var(--first)" in svg
    assert all(name.startswith("k-") for name in re.findall(r' id="([^"]*)"', svg))
    assert "font-family" not in svg
    assert svg == draw("k", lambda axes: axes.plot([0, 1, 2], [0.123456, 1, 0], color=FIRST))


def test_text_keeps_its_digits():
    assert for_page('<svg width="1pt" height="1pt"><text x="1.23456">0.12345</text></svg>', "k").endswith(
        '<text x="1.23">0.12345</text></svg>'
    )


def test_powers_of_ten_are_whole_and_few():
    def plot(axes):
        powers_of_ten(axes, "x", 3e-9, 2e6)
        ticks.extend(axes.get_xticks())

    ticks = []
    draw("k", plot)
    assert 2 < len(ticks) < 8
    np.testing.assert_allclose(np.log10(ticks), np.round(np.log10(ticks)))


def test_the_largest_of_every_stretch_is_kept():
    steps, rows = np.arange(2000), np.zeros(2000)
    rows[[7, 1234, 1999]] = 5.0, 7.0, 3.0
    at, found = thinned(steps, rows, most=100)
    assert len(at) == len(found) == 100
    assert sorted(found[found > 0]) == [3.0, 5.0, 7.0]
    assert at[np.argmax(found)] <= 1234 < at[np.argmax(found) + 1]
    assert thinned(steps[:9], rows[:9])[1] is not found


@pytest.mark.parametrize(("part", "whole", "said"), [(10**9 - 1, 10**9, "99.9999 %"), (0, 7, "0.0000 %")])
def test_a_share_is_not_rounded_up(part, whole, said):
    assert percent(part, whole) == said


@pytest.mark.parametrize(
    ("times", "said"), [(0.57943, "0.579 times"), (8612.3, "8,610 times"), (1e7, "10,000,000 times")]
)
def test_multiples(times, said):
    assert multiple(times) == said
