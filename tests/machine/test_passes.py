"""Passes: what they fold, what they leave alone, and that the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from psu_deploy.errors import InternalError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.passes import (
    PASSES,
    FoldChannelAffine,
    MergeReshapes,
    Pass,
    RemoveDeadLayers,
    SettleShifts,
    simplify,
)
from tests.helpers import ROUNDING


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def affine(channels, seed=0):
    return ops.ChannelAffine(normal(channels, seed=seed), normal(channels, seed=seed + 1))


def chain(features, *layers):
    nodes = [Node(f"n{i}", layer, (f"n{i - 1}" if i else "x",)) for i, layer in enumerate(layers)]
    return StateMachine(tuple(nodes), features)


def kinds(machine):
    return [type(node.layer).__name__ for node in machine.nodes]


def check_same_numbers(before: StateMachine, after: StateMachine) -> None:
    x = normal(5, 2, *before.input_shape)
    np.testing.assert_allclose(after.run(x), before.run(x), **ROUNDING)


CONV1D = ops.Conv1d(normal(4, 3, 3), None, (1,), ((1, 1),), (1,), 1)
CONV2D = ops.Conv2d(normal(4, 1, 3, 2), normal(4), (2, 1), ((1, 0), (0, 1)), (1, 1), 2)
LINEAR = ops.Linear(normal(4, 3), normal(4))
LINEAR6 = ops.Linear(normal(6, 6), normal(6))


class TestFolding:
    @pytest.mark.parametrize(
        ("layer", "features"),
        [(LINEAR, (3,)), (ops.Linear(normal(4, 3)), (3,)), (CONV1D, (3, 5)), (CONV2D, (2, 5, 5))],
    )
    def test_into_the_layer_before(self, layer, features):
        before = chain(features, layer, affine(4))
        after = FoldChannelAffine()(before)
        assert kinds(after) == [type(layer).__name__]
        assert after.output == "n0"
        check_same_numbers(before, after)

    def test_by_hand(self):
        """scale*(W x + b) + shift = (scale*W) x + (scale*b + shift), exactly in float64."""
        scale, shift = normal(4), normal(4, seed=1)
        (node,) = FoldChannelAffine()(chain((3,), LINEAR, ops.ChannelAffine(scale, shift))).nodes
        assert np.array_equal(node.layer.weight, LINEAR.weight * scale[:, None])
        assert np.array_equal(node.layer.bias, LINEAR.bias * scale + shift)

    def test_two_in_a_row(self):
        before = chain((3, 5), CONV1D, affine(4), affine(4, seed=5))
        after = FoldChannelAffine()(before)
        assert kinds(after) == ["Conv1d"]
        check_same_numbers(before, after)

    def test_in_the_middle(self):
        before = chain((3, 5), CONV1D, affine(4), ops.Flatten(), ops.Linear(normal(2, 20)), affine(2))
        after = FoldChannelAffine()(before)
        assert kinds(after) == ["Conv1d", "Flatten", "Linear"]
        check_same_numbers(before, after)

    def test_several_readers_of_the_affine(self):
        nodes = (
            Node("fc", LINEAR, ("x",)),
            Node("bn", affine(4), ("fc",)),
            Node("left", ops.Linear(normal(2, 4)), ("bn",)),
            Node("right", ops.Linear(normal(2, 4, seed=1)), ("bn",)),
            Node("sum", ops.Add(), ("left", "right")),
        )
        before = StateMachine(nodes, (3,))
        after = FoldChannelAffine()(before)
        assert [node.name for node in after.nodes] == ["fc", "left", "right", "sum"]
        check_same_numbers(before, after)

    @pytest.mark.parametrize("name", ["n0", "affine"])
    def test_layer_names_are_free(self, name):
        """No name that the pass uses for itself may collide with one of the user's."""
        nodes = (Node(name, LINEAR, ("x",)), Node("bn", affine(4), (name,)))
        before = StateMachine(nodes, (3,))
        check_same_numbers(before, FoldChannelAffine()(before))

    def test_large_bias_that_the_mean_cancels(self):
        linear = ops.Linear(normal(4, 3), np.full(4, 1e5))
        before = chain((3,), linear, ops.ChannelAffine(np.ones(4), np.full(4, -1e5)))
        np.testing.assert_allclose(
            FoldChannelAffine()(before).run(normal(5, 2, 3)), before.run(normal(5, 2, 3)), atol=1e-9
        )


class TestLeftAlone:
    def check(self, machine):
        after = FoldChannelAffine()(machine)
        assert kinds(after) == kinds(machine)
        check_same_numbers(machine, after)

    def test_on_the_input(self):
        self.check(chain((3, 5), affine(3), CONV1D))

    def test_after_a_layer_that_is_read_twice(self):
        nodes = (
            Node("fc", LINEAR, ("x",)),
            Node("bn", affine(4), ("fc",)),
            Node("skip", ops.Add(), ("bn", "fc")),
        )
        self.check(StateMachine(nodes, (3,)))

    def test_after_a_layer_that_is_the_output(self):
        nodes = (Node("fc", LINEAR, ("x",)), Node("bn", affine(4), ("fc",)))
        machine = StateMachine(nodes, (3,), "fc")
        assert kinds(FoldChannelAffine()(machine)) == ["Linear", "ChannelAffine"]

    @pytest.mark.parametrize("layer", [ops.Flatten(), ops.Delay(1), ops.MaxPool((1,), (1,), ((0, 0),))])
    def test_after_something_else(self, layer):
        features = (4, 1)
        self.check(chain(features, layer, affine(4)))

    def test_after_a_neuron(self):
        neuron = ops.SpikingNeuron(ops.Identity(), None, ops.Sigmoid(), None, 0.0, ">=")
        self.check(chain((4,), neuron, affine(4)))

    def test_other_axis(self):
        """A Linear over (C, in) has its outputs in the last axis, the affine its channels in the first."""
        self.check(chain((2, 3), LINEAR, affine(2)))
        self.check(chain((4, 3), LINEAR, affine(4)))


class TestDeadLayers:
    def test_are_removed(self):
        nodes = (
            Node("dead before", affine(3), ("x",)),
            Node("live", LINEAR, ("x",)),
            Node("dead", affine(4), ("live",)),
            Node("dead after", ops.Flatten(), ("dead",)),
            Node("late", ops.Wait(2), ("live",)),
            Node("dead and later", ops.Wait(3), ("late",)),
            Node("out", affine(4, seed=3), ("late",)),
            Node("dead last", ops.Flatten(), ("out",)),
        )
        before = StateMachine(nodes, (3,), "out")
        after = RemoveDeadLayers()(before)
        assert [node.name for node in after.nodes] == ["live", "late", "out"]
        assert after.latency == 2
        check_same_numbers(before, after)

    def test_a_dead_reader_does_not_stop_a_fold(self):
        nodes = (Node("fc", LINEAR, ("x",)), Node("dead", ops.Flatten(), ("fc",)), Node("bn", affine(4), ("fc",)))
        before = StateMachine(nodes, (3,))
        after = simplify(before)
        assert kinds(after) == ["Linear"]
        check_same_numbers(before, after)

    def test_dead_state_is_gone(self):
        nodes = (Node("memory", ops.Delay(5), ("x",)), Node("fc", LINEAR, ("x",)))
        assert simplify(StateMachine(nodes, (3,))).state_spec == {}


class TestPass:
    def test_input_is_untouched(self):
        before = chain((3,), LINEAR, affine(4))
        digest = before.content_hash
        simplify(before)
        assert chain((3,), LINEAR, affine(4)).content_hash == before.content_hash == digest

    def test_nothing_to_do(self):
        machine = chain((3,), LINEAR)
        assert simplify(machine).content_hash == machine.content_hash

    def test_broken_promises_are_internal_errors(self):
        class Breaks(Pass):
            def apply(self, machine):
                return chain((3,), ops.Linear(normal(5, 3)))

        with pytest.raises(InternalError, match="Breaks changed the shape"):
            Breaks()(chain((3,), LINEAR))

        class Forgets(FoldChannelAffine):
            def apply(self, machine):
                return machine

        with pytest.raises(InternalError, match="a foldable BatchNorm remains"):
            Forgets()(chain((3,), LINEAR, affine(4)))

        class Keeps(RemoveDeadLayers):
            def apply(self, machine):
                return machine

        dead = StateMachine((Node("dead", LINEAR, ("x",)), Node("out", LINEAR, ("x",))), (3,))
        with pytest.raises(InternalError, match=r"dead layers remain: \['dead'\]"):
            Keeps()(dead)

    def test_order(self):
        kinds = [type(one_pass) for one_pass in PASSES]
        assert kinds == [MergeReshapes, RemoveDeadLayers, FoldChannelAffine, SettleShifts]


class TestMergeReshapes:
    def machine(self):
        nodes = (
            Node("a", ops.Reshape((2, 3)), ("x",)),
            Node("b", ops.Reshape((3, 2)), ("a",)),
            Node("c", ops.Reshape((6,)), ("b",)),
            Node("d", LINEAR6, ("c",)),
            Node("e", ops.Flatten(), ("b",)),
            Node("f", ops.Permute((1, 0)), ("b",)),
            Node("g", ops.Add(), ("d", "e")),
        )
        return StateMachine(nodes, (6,))

    def test_one_instead_of_several_and_none_where_nothing_changes(self):
        before = self.machine()
        after = RemoveDeadLayers()(MergeReshapes()(before))
        assert {node.name: node.inputs for node in after.nodes} == {"d": ("x",), "e": ("x",), "g": ("d", "e")}
        x = np.random.default_rng(0).standard_normal((2, 3, 6))
        np.testing.assert_array_equal(after.run(x), before.run(x))

    def test_the_output_keeps_its_name(self):
        nodes = (Node("a", ops.Reshape((2, 3)), ("x",)), Node("b", ops.Reshape((6,)), ("a",)))
        assert MergeReshapes()(StateMachine(nodes, (6,))).output == "b"
