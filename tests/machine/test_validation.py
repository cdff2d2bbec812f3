"""A state machine that cannot work is refused when it is made, with the reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from psu_deploy.errors import InputError
from psu_deploy.machine import Node, StateMachine, ops

LINEAR = ops.Linear(np.ones((2, 3)))
BACK = ops.Linear(np.ones((3, 2)))
SIGMOID = ops.Sigmoid()
STAIRS = {"thresholds": [0.0, 1.0], "height": 0.5, "offset": 0.0}


class TestGraph:
    def test_defaults(self):
        machine = StateMachine([Node("a", LINEAR, ("x",)), Node("b", BACK, ("a",))], 3)
        assert (machine.output, machine.latency, machine.horizon) == ("b", 0, None)
        assert machine.shapes == {"x": (3,), "a": (2,), "b": (3,)}

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([], "at least one layer"),
            ([Node("a", LINEAR, ("y",))], r"layer 'a': inputs \['y'\] are not computed before it"),
            ([Node("a", LINEAR, ("a",))], r"layer 'a': inputs \['a'\] are not computed before it"),
            ([Node("a", LINEAR, ("b",)), Node("b", BACK, ("a",))], r"layer 'a': inputs \['b'\] are not computed"),
            ([Node("a", LINEAR, ("x",)), Node("a", BACK, ("a",))], "layer name 'a' is empty, reserved or used twice"),
            ([Node("x", LINEAR, ("x",))], "layer name 'x' is empty, reserved or used twice"),
            ([Node("step", LINEAR, ("x",))], "layer name 'step' is empty, reserved or used twice"),
            ([Node("", LINEAR, ("x",))], "layer name '' is empty"),
            ([Node("a", LINEAR, ("x", "x"))], r"layer 'a': Linear got 2 input\(s\)"),
            ([Node("a", LINEAR, ())], r"layer 'a': Linear got 0 input\(s\)"),
            ([Node("a", ops.Add(), ("x",))], r"layer 'a': Add got 1 input\(s\)"),
            ([Node("a", BACK, ("x",))], r"layer 'a': Linear needs 2 features in the last axis, got shape \(3,\)"),
            (
                [Node("a", LINEAR, ("x",)), Node("b", ops.Add(), ("a", "x"))],
                "layer 'b': Add needs features that broadcast",
            ),
            ([Node("a", LINEAR, ("x",)), Node("b", ops.Multiply(), ("a", "x"))], "layer 'b': Multiply needs features"),
            (
                [Node("a", ops.Wait(2), ("x",)), Node("b", ops.Add(), ("a", "x"))],
                r"layer 'b': its inputs belong to different steps, they lag by {'a': 2, 'x': 0}; put a Wait behind",
            ),
        ],
    )
    def test_refusals(self, nodes, message):
        with pytest.raises(InputError, match=message):
            StateMachine(tuple(nodes), (3,))

    @pytest.mark.parametrize("shape", [(), 0, (0,), (-1,), (3, 0), (2.5,), ("3",)])
    def test_input_shape(self, shape):
        with pytest.raises(InputError, match="input_shape"):
            StateMachine((Node("a", ops.Flatten(), ("x",)),), shape)

    def test_output(self):
        with pytest.raises(InputError, match=r"output 'b' is not a layer; layers are \['a'\]"):
            StateMachine((Node("a", LINEAR, ("x",)),), (3,), "b")

    def test_the_input_is_no_output(self):
        with pytest.raises(InputError, match="output 'x' is not a layer"):
            StateMachine((Node("a", LINEAR, ("x",)),), (3,), "x")

    def test_latency_is_what_the_layers_look_ahead(self):
        look, wait = ops.TimeConv(np.ones((3, 3, 3)), None, 1, lookahead=2), ops.Wait(1)
        neuron = ops.SpikingNeuron(ops.PartialSums(np.eye(5), np.zeros(5)), None, SIGMOID, None, 1.0, ">=")
        nodes = [Node("a", look, ("x",)), Node("b", wait, ("a",)), Node("c", neuron, ("b",)), Node("d", LINEAR, ("c",))]
        machine = StateMachine((*nodes, Node("e", wait, ("d",))), (3,))
        assert machine.latencies == {"x": 0, "a": 2, "b": 3, "c": 3, "d": 3, "e": 4}
        assert machine.starts == {"a": 0, "b": 2, "c": 3, "d": 3, "e": 3}
        assert (machine.latency, machine.horizon) == (4, 3 + 5)
        assert StateMachine(machine.nodes, (3,), "d").latency == 3

    def test_latency_is_not_for_the_caller_to_say(self):
        with pytest.raises(TypeError, match="latency"):
            StateMachine((Node("a", LINEAR, ("x",)),), (3,), latency=1)

    def test_is_frozen(self):
        machine = StateMachine((Node("a", LINEAR, ("x",)),), (3,))
        with pytest.raises(AttributeError):
            machine.output = "b"
        with pytest.raises(ValueError, match="read-only"):
            LINEAR.weight[0, 0] = 2.0

    def test_copies_what_it_is_given(self):
        weight = np.ones((2, 3))
        layer = ops.Linear(weight)
        weight[:] = 5.0
        assert (layer.weight == 1.0).all()


CONV = {"weight": np.ones((4, 2, 3)), "bias": None, "stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
TIME = {"weight": np.ones((4, 2, 3)), "bias": None, "groups": 1}
LIF = {"tau": 2.0, "decay_input": True, "threshold": 1.0, "reset": "hard", "fire_on": ">="}
RANDOM = {"integrate": ops.Leak(0.5, 0.5), "seed": 0}
POOL = {"kernel": (2,), "stride": (2,), "padding": ((0, 0),)}
TURNED = {
    "weight": np.ones((2, 4, 3)),
    "bias": None,
    "stride": (2,),
    "padding": ((0, 0),),
    "output_padding": (0,),
    "dilation": (1,),
    "groups": 1,
}
PROJECT, TAKE, PADDED = {"matrix": np.ones((2, 3)), "axis": 0}, {"axis": 0, "indices": (0,)}, {"padding": ((0, 1),)}
REDUCE = {"kind": "mean", "axes": (0,)}
NORM = {"shape": (3,), "eps": 0.1, "weight": np.ones(3)}
GROUPS = {"groups": 2, "eps": 0.1, "weight": np.ones(4)}
SQUARE = {"matrix": np.eye(3), "bias": np.zeros(3)}
WINDOW = {"columns": np.ones((3, 2)), "bias": np.zeros(3), "time_invariant": False}


@pytest.mark.parametrize(
    ("kind", "good", "wrong", "message"),
    [
        (ops.Linear, {"weight": np.ones((2, 3))}, {"weight": np.ones(3)}, "Linear.weight must have 2 axes"),
        (ops.Linear, {"weight": np.ones((2, 3))}, {"weight": np.full((2, 3), np.nan)}, "Linear.weight holds NaN"),
        (ops.Linear, {"weight": np.ones((2, 3))}, {"bias": np.ones(3)}, "Linear: bias has 3 entries for 2 outputs"),
        (ops.Linear, {"weight": np.ones((2, 3))}, {"bias": np.full(2, np.inf)}, "Linear.bias holds NaN or infinity"),
        (ops.Conv1d, CONV, {"weight": np.ones((4, 2))}, "Conv1d.weight must have 3 axes"),
        (ops.Conv1d, CONV, {"bias": np.ones(3)}, "Conv1d: bias has 3 entries for 4 outputs"),
        (ops.Conv1d, CONV, {"stride": (0,)}, "Conv1d.stride must be whole numbers in 1..2147483647"),
        (ops.Conv1d, CONV, {"stride": 1}, "Conv1d.stride must be whole numbers in 1..2147483647"),
        (ops.Conv1d, CONV, {"stride": (True,)}, "Conv1d.stride must be whole numbers in 1..2147483647"),
        (ops.Conv1d, CONV, {"dilation": (1, 1)}, "Conv1d.dilation must have 1 entries, got 2"),
        (ops.Conv1d, CONV, {"padding": ((1,),)}, r"Conv1d.padding must be 1 pairs \(before, after\)"),
        (ops.Conv1d, CONV, {"padding": (1,)}, r"Conv1d.padding must be 1 pairs \(before, after\)"),
        (ops.Conv1d, CONV, {"padding": ((0, -1),)}, "Conv1d.padding must hold whole numbers in 0..2147483647"),
        (ops.Conv1d, CONV, {"groups": 3}, "Conv1d: groups=3 does not divide 4 channels"),
        (ops.Conv1d, CONV, {"groups": 0}, "Conv1d: groups=0"),
        (ops.Conv2d, CONV, {}, "Conv2d.weight must have 4 axes"),
        (ops.AvgPool, POOL, {"kernel": (0,)}, "AvgPool.kernel must be whole numbers in 1..2147483647"),
        (ops.AvgPool, POOL, {"stride": (1, 1)}, "AvgPool.stride must have 1 entries"),
        (
            ops.MaxPool,
            POOL,
            {"kernel": (1,) * 4, "stride": (1,) * 4, "padding": ((0, 0),) * 4},
            "MaxPool slides over one, two or three axes",
        ),
        (ops.ConvTranspose1d, TURNED, {"bias": np.ones(2)}, "ConvTranspose1d: bias has 2 entries for 4 outputs"),
        (ops.ConvTranspose1d, TURNED, {"groups": 3}, "ConvTranspose1d: groups=3 does not divide 2 channels"),
        (
            ops.ConvTranspose1d,
            TURNED,
            {"output_padding": (2,)},
            r"output_padding \(2,\) must be below the stride or the",
        ),
        (ops.ConvTranspose2d, TURNED, {}, "ConvTranspose2d.weight must have 4 axes"),
        (ops.Affine, {"scale": 1.0, "shift": 0.0}, {"scale": [math.nan]}, "Affine.scale holds NaN"),
        (ops.Project, PROJECT, {"matrix": np.ones(2)}, "Project.matrix must have 2 axes"),
        (ops.Project, PROJECT, {"axis": -1}, r"Project.axis must be a feature axis in 0..31, got -1"),
        (ops.Project, PROJECT, {"axis": 32}, r"Project.axis must be a feature axis in 0..31, got 32"),
        (ops.Reshape, {"shape": (2, 3)}, {"shape": (2, 0)}, "Reshape.shape must be whole numbers in 1"),
        (ops.Reshape, {"shape": (2, 3)}, {"shape": (1,) * 33}, "Reshape.shape must have at most 32 axes, got 33"),
        (ops.Permute, {"axes": (1, 0)}, {"axes": (0, 0)}, r"Permute.axes must be different feature axes"),
        (ops.Permute, {"axes": (1, 0)}, {"axes": (0, 2)}, r"Permute.axes must hold each of 0..1 once, got \(0, 2\)"),
        (ops.Take, TAKE, {"indices": ()}, "Take.indices must hold at least one index"),
        (ops.Take, TAKE, {"indices": (-1,)}, "Take.indices must be whole numbers in 0"),
        (ops.Take, TAKE, {"axis": 1.0}, "Take.axis must be a feature axis"),
        (ops.Concat, {"axis": 0}, {"axis": None}, "Concat.axis must be a feature axis"),
        (ops.Outputs, {"names": ("a", "b")}, {"names": ("a", "a")}, "Outputs.names must be different words"),
        (ops.Outputs, {"names": ("a", "b")}, {"names": ("a", "")}, "Outputs.names must be different words"),
        (ops.Outputs, {"names": ("a", "b")}, {"names": ("a", 1)}, "Outputs.names must be different words"),
        (ops.Outputs, {"names": ("a", "b")}, {"names": ("a", "b\0")}, "Outputs.names must be different words"),
        (ops.Outputs, {"names": ("a", "b")}, {"names": "ab"}, "Outputs.names must be different words"),
        (ops.Expand, {"shape": (2, 3)}, {"shape": 3}, "Expand.shape must be whole numbers"),
        (ops.ConstantPad, PADDED, {"padding": ((0, -1),)}, "ConstantPad.padding must hold whole numbers in 0"),
        (ops.ConstantPad, PADDED, {"padding": (1, 2)}, r"ConstantPad.padding must be pairs \(before, after\)"),
        (ops.ConstantPad, PADDED, {"value": math.inf}, "ConstantPad.value must be a finite number"),
        (ops.Reduce, REDUCE, {"kind": "prod"}, "Reduce.kind must be one of .*, got 'prod'"),
        (ops.Reduce, REDUCE, {"axes": ()}, "Reduce.axes must hold at least one axis"),
        (ops.Reduce, REDUCE, {"axes": (1, 1)}, "Reduce.axes must be different feature axes"),
        (ops.Reduce, REDUCE, {"keepdims": 1}, "Reduce.keepdims must be True or False, got 1"),
        (ops.LPPool, POOL | {"norm": 2.0}, {"norm": 0.0}, "LPPool.norm must be above 0, got 0.0"),
        (ops.LPPool, POOL | {"norm": 2.0}, {"norm": 1e-320}, "LPPool.norm must be above 0"),
        (ops.LPPool, POOL | {"norm": 2.0}, {"norm": math.inf}, "LPPool.norm must be a finite number"),
        (ops.ArgMax, {"axis": 0}, {"axis": -1}, "ArgMax.axis must be a feature axis"),
        (ops.ArgMax, {"axis": 0}, {"keepdims": None}, "ArgMax.keepdims must be True or False"),
        (ops.TopK, {"axis": 0, "count": 1}, {"count": 0}, "TopK.count must be a whole number above 0, got 0"),
        (ops.TopK, {"axis": 0, "count": 1}, {"count": 2.0}, "TopK.count must be a whole number above 0, got 2.0"),
        (ops.TopK, {"axis": 0, "count": 1}, {"largest": 1}, "TopK.largest must be True or False"),
        (ops.ArgTopK, {"axis": 0, "count": 1}, {"axis": None}, "ArgTopK.axis must be a feature axis"),
        (ops.MeanOfLast, {"steps": 1}, {"steps": 0}, "MeanOfLast.steps must be a whole number in 1..100000, got 0"),
        (ops.ChannelAffine, {"scale": np.ones(2), "shift": np.ones(2)}, {"shift": np.ones(3)}, "differ"),
        (ops.Delay, {"steps": 1}, {"steps": 0}, r"Delay.steps must be a whole number in 1..100000, got 0"),
        (ops.Delay, {"steps": 1}, {"steps": 10**9}, r"Delay.steps must be a whole number in 1..100000"),
        (ops.Delay, {"steps": 1}, {"steps": 1.0}, r"Delay.steps must be a whole number"),
        (ops.Wait, {"steps": 1}, {"steps": 0}, r"Wait.steps must be a whole number in 1..100000, got 0"),
        (ops.HandOver, {"decay": 0.4, "theta": 1.0}, {"decay": math.nan}, "HandOver.decay must be a finite number"),
        (ops.HandOver, {"decay": 0.4, "theta": 1.0}, {"theta": "pi"}, "HandOver.theta must be a finite number"),
        (ops.TimeConv, TIME, {"weight": np.ones((4, 2))}, "TimeConv.weight must have 3 axes"),
        (ops.TimeConv, TIME, {"bias": np.ones(3)}, "TimeConv: bias has 3 entries for 4 outputs"),
        (ops.TimeConv, TIME, {"groups": 3}, "TimeConv: groups=3 does not divide 4 channels"),
        (ops.TimeConv, TIME, {"groups": 0}, "TimeConv: groups=0"),
        (ops.TimeConv, TIME, {"lookahead": 3}, r"TimeConv.lookahead must be a whole number in 0..2, got 3"),
        (ops.TimeConv, TIME, {"lookahead": -1}, r"TimeConv.lookahead must be a whole number in 0..2, got -1"),
        (ops.TimeConv, TIME, {"lookahead": 1.0}, r"TimeConv.lookahead must be a whole number"),
        (ops.Activation, {"kind": "relu"}, {"kind": "atan"}, "Activation.kind must be one of .*, got 'atan'"),
        (ops.Elementary, {"kind": "exp"}, {"kind": "exp2"}, "Elementary.kind must be one of .*, got 'exp2'"),
        (ops.Power, {"exponent": 2}, {"exponent": math.inf}, "Power.exponent must be a finite number"),
        (ops.Power, {"exponent": 2}, {"exponent": 1e-300}, "Power: exponent must be a number that float32 has"),
        (ops.Power, {"exponent": 2}, {"exponent": -1e300}, "Power: exponent must be a number that float32 has"),
        (ops.LeakyReLU, {"slope": 0.1}, {"slope": None}, "LeakyReLU.slope must be a finite number"),
        (ops.PReLU, {"slopes": [0.1]}, {"slopes": 0.1}, "PReLU.slopes must have 1 axes"),
        (ops.ELU, {"alpha": 1.0}, {"alpha": math.nan}, "ELU.alpha must be a finite number"),
        (ops.ELU, {"alpha": 1.0}, {"rate": 0.0}, "ELU.rate must be above 0, got 0.0"),
        (ops.Softplus, {}, {"beta": 0.0}, "Softplus.beta must not be 0"),
        (ops.Clamp, {"low": 0.0}, {"low": None}, "Clamp needs low <= high, and one of them at least"),
        (ops.Clamp, {"low": 0.0, "high": 0.0}, {"high": -1.0}, "Clamp needs low <= high"),
        (ops.Clamp, {"low": 0.0}, {"low": math.inf}, "Clamp.low must be a finite number"),
        (ops.Softmax, {"axis": 0}, {"axis": -1}, "Softmax.axis must be a feature axis"),
        (ops.LogSoftmax, {"axis": 0}, {"axis": 1.0}, "LogSoftmax.axis must be a feature axis"),
        (ops.LayerNorm, NORM, {"eps": -1.0}, "LayerNorm.eps must be 0 or more, got -1.0"),
        (ops.LayerNorm, NORM, {"shape": 3}, "LayerNorm.shape must be whole numbers"),
        (ops.LayerNorm, NORM, {"weight": np.ones(2)}, r"LayerNorm.weight must have shape \(3,\), got \(2,\)"),
        (ops.LayerNorm, NORM, {"bias": np.ones((1, 3))}, "LayerNorm.bias must have 1 axes"),
        (ops.RMSNorm, NORM, {"weight": np.ones(2)}, r"RMSNorm.weight must have shape \(3,\), got \(2,\)"),
        (ops.RMSNorm, NORM, {"eps": None}, "RMSNorm.eps must be a finite number"),
        (ops.GroupNorm, GROUPS, {"groups": 0}, "GroupNorm.groups must be a whole number >= 1, got 0"),
        (ops.GroupNorm, GROUPS, {"bias": np.ones(2)}, r"GroupNorm.bias must have shape \(4,\), got \(2,\)"),
        (ops.LIFNeuron, LIF, {"tau": 0.5}, "LIFNeuron.tau is a number of steps and must be at least 1, got 0.5"),
        (ops.LIFNeuron, LIF, {"tau": math.inf}, "LIFNeuron.tau must be a finite number"),
        (ops.LIFNeuron, LIF, {"tau": None}, "without leak .* nothing to divide the input by; decay_input=False"),
        (ops.LIFNeuron, LIF, {"threshold": math.nan}, "LIFNeuron.threshold must be a finite number"),
        (ops.LIFNeuron, LIF, {"reset": "zero"}, "LIFNeuron.reset must be one of .*, got 'zero'"),
        (ops.LIFNeuron, LIF, {"fire_on": "=>"}, "LIFNeuron.fire_on must be one of"),
        (ops.LIFNeuron, LIF, {"decay_input": 1}, "LIFNeuron.decay_input must be"),
        (ops.BernoulliNeuron, RANDOM, {"seed": -1}, "BernoulliNeuron.seed must be a whole number .*, got -1"),
        (ops.BernoulliNeuron, RANDOM, {"seed": 1.0}, "BernoulliNeuron.seed must be a whole number"),
        (ops.BernoulliNeuron, RANDOM, {"seed": True}, "BernoulliNeuron.seed must be a whole number"),
        (ops.BernoulliNeuron, RANDOM, {"integrate": None}, "BernoulliNeuron.integrate must be"),
        (ops.Readout, {"kind": "mean"}, {"kind": "median"}, "Readout.kind must be one of .*, got 'median'"),
        (ops.Leak, {"gain": 1.0, "decay": 0.5}, {"gain": math.nan}, "Leak.gain must be a finite number"),
        (ops.StrictLeak, {"gain": 1.0, "decay": 0.5}, {"decay": "a"}, "StrictLeak.decay must be a finite number"),
        (ops.PartialSums, SQUARE, {"matrix": np.ones((3, 3))}, "above the diagonal, so it is not causal"),
        (ops.PartialSums, SQUARE, {"matrix": np.ones((2, 3))}, r"must be \(T, T\), \(T,\)"),
        (ops.PartialSums, SQUARE, {"bias": np.zeros(2)}, r"must be \(T, T\), \(T,\)"),
        (ops.Window, WINDOW, {"bias": np.zeros(2)}, r"must be \(rows, k\), \(rows,\)"),
        (ops.Window, WINDOW, {"time_invariant": True}, "a time-invariant window has one row, got 3"),
        (ops.Exponentials, {"gains": [1.0], "decays": [0.5]}, {"gains": [1.0, 2.0]}, "2 gains but 1 decays"),
        (ops.Exponentials, {"gains": [1.0], "decays": [0.5]}, {"gains": [], "decays": []}, "0 gains"),
        (ops.Exponentials, {"gains": [1.0], "decays": [0.5]}, {"bias": math.nan}, "Exponentials.bias must be a"),
        (ops.Staircase, STAIRS, {"thresholds": []}, "Staircase.thresholds must be one or more rising numbers"),
        (ops.Staircase, STAIRS, {"thresholds": [0.0, 0.0]}, "Staircase.thresholds must be one or more rising"),
        (ops.Staircase, STAIRS, {"thresholds": [1.0, 0.0]}, "Staircase.thresholds must be one or more rising"),
        (ops.Staircase, STAIRS, {"thresholds": [math.nan]}, "Staircase.thresholds holds NaN or infinity"),
        (ops.Staircase, STAIRS, {"thresholds": 0.0}, "Staircase.thresholds must have 1 axes"),
        (ops.Staircase, STAIRS, {"height": math.inf}, "Staircase.height must be a finite number"),
        (ops.Staircase, STAIRS, {"offset": None}, "Staircase.offset must be a finite number"),
        (ops.Filter, {"operator": ops.Identity()}, {"operator": SIGMOID}, "Filter.operator must be"),
        (ops.Filter, {"operator": ops.Identity()}, {"operator": None}, "Filter.operator must be"),
    ],
)
def test_layers_and_operators(kind, good, wrong, message):
    if wrong:
        kind(**good)
    with pytest.raises(InputError, match=message):
        kind(**(good | wrong))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (ops.Conv1d(**CONV), (3, 9), "Conv1d needs 2 channels and 1 more axes"),
        (ops.Conv1d(**CONV), (2,), "Conv1d needs 2 channels and 1 more axes"),
        (ops.Conv1d(**CONV), (2, 2), r"a window of \(3,\) does not fit an input of \(2,\)"),
        (ops.AvgPool(**POOL), (3,), "AvgPool needs channels and 1 more axes"),
        (ops.MaxPool(**POOL), (3, 1), "does not fit"),
        (ops.MaxPool((1,), (1,), ((1, 0),)), (3, 2), r"a window of \(1,\) lies in the padding .* alone"),
        (ops.MaxPool((1,), (3,), ((0, 1),)), (3, 3), "alone and has no value"),
        (ops.AvgPool((2,), (2,), ((0, 2),), count_padding=False), (3, 2), "alone and has no value"),
        (ops.ChannelAffine(np.ones(2), np.ones(2)), (3, 2), "ChannelAffine needs 2 channels"),
        (ops.PReLU([0.1, 0.2]), (3, 2), "PReLU needs 2 channels"),
        (ops.Softmax(1), (3,), r"Softmax over feature axis 1 does not fit shape \(3,\)"),
        (ops.LayerNorm(**NORM), (3, 4), r"LayerNorm needs features that end with \(3,\)"),
        (ops.LayerNorm((), 0.1), (3,), "LayerNorm needs features that end with"),
        (ops.RMSNorm((2, 3), 0.1), (3,), "RMSNorm needs features that end with"),
        (ops.GroupNorm(2, 0.1), (3, 2), "GroupNorm needs channels that 2 divides"),
        (ops.GroupNorm(**GROUPS), (2, 2), "GroupNorm: weight and bias are not of the 2 channels"),
        (ops.TimeConv(**TIME), (3,), "TimeConv needs 2 features in one axis"),
        (ops.TimeConv(**TIME), (2, 1), "TimeConv needs 2 features in one axis"),
        (ops.ConvTranspose1d(**TURNED), (3, 5), "ConvTranspose1d needs 2 channels and 1 more axes"),
        (ops.ConvTranspose1d(**TURNED | {"padding": ((2, 1),)}), (2, 1), "nothing is left"),
        (ops.Affine(np.ones(2), np.ones(2)), (3,), "Affine needs features that broadcast"),
        (ops.Project(**PROJECT), (2,), "Project needs 3 features in axis 0"),
        (ops.Project(np.ones((2, 3)), 1), (3,), "Project works over feature axis 1"),
        (ops.Reshape((2, 3)), (5,), "Reshape to .* needs 6 numbers"),
        (ops.Permute((1, 0)), (2, 3, 4), "Permute of 2 axes got features"),
        (ops.Take(0, (3,)), (3,), "Take needs more than 3 entries in axis 0"),
        (ops.Take(1, (0,)), (3,), "Take works over feature axis 1"),
        (ops.Expand((2, 3)), (2, 2, 3), "Expand cannot make features"),
        (ops.Expand((2, 3)), (2,), "Expand needs features that broadcast"),
        (ops.Expand((1, 3)), (2, 3), "Expand cannot make features"),
        (ops.ConstantPad(**PADDED), (3, 3), "ConstantPad has 1 pairs for features"),
        (ops.Reduce("sum", (1,)), (3,), "Reduce works over feature axis 1"),
        (ops.TopK(1, 1), (3,), "TopK works over feature axis 1"),
        (ops.ArgTopK(0, 4), (3, 5), "ArgTopK takes 4 of the 3 in axis 0"),
        (ops.ArgMax(2), (3, 3), "ArgMax works over feature axis 2"),
    ],
)
def test_shapes_must_fit(layer, shape, message):
    with pytest.raises(InputError, match=f"layer 'a': .*{message}"):
        StateMachine((Node("a", layer, ("x",)),), shape)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ops.Concat(1), "Concat along axis 1 needs all other axes of one size"),
        (ops.Concat(2), "Concat works over feature axis 2"),
        (ops.MatMul(), r"MatMul needs features \(..., n, k\) and \(..., k, m\)"),
        (ops.Subtract(), "Subtract needs features that broadcast"),
        (ops.Divide(), "Divide needs features that broadcast"),
    ],
)
def test_two_shapes_must_fit(layer, message):
    taken = Node("a", ops.Take(0, (0, 1)), ("x",))
    with pytest.raises(InputError, match=f"layer 'b': {message}"):
        StateMachine((taken, Node("b", layer, ("x", "a"))), (3, 3))


NEURON = {
    "integrate": ops.Leak(0.5, 0.5),
    "estimate": None,
    "estimator": ops.Sigmoid(),
    "reset": ops.StrictLeak(1.0, 0.5),
    "threshold": 1.0,
    "fire_on": ">=",
}


class TestSpikingNeuron:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"threshold": math.nan}, "SpikingNeuron.threshold must be a finite number"),
            ({"threshold": None}, "SpikingNeuron.threshold must be a finite number"),
            ({"fire_on": "=>"}, "SpikingNeuron.fire_on must be one of"),
            ({"estimate": ops.Identity(), "reset": None}, "has an estimate but no reset to feed it to"),
        ],
    )
    def test_refusals(self, wrong, message):
        with pytest.raises(InputError, match=message):
            ops.SpikingNeuron(**(NEURON | wrong))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"integrate": None},
            {"integrate": ops.Sigmoid()},
            {"integrate": LINEAR},
            {"estimate": 1.0},
            {"estimator": None},
            {"estimator": ops.Leak(0.5, 0.5)},
            {"reset": ops.Sigmoid()},
        ],
    )
    def test_operators_must_be_operators(self, wrong):
        with pytest.raises(InputError):
            ops.SpikingNeuron(**(NEURON | wrong))

    @pytest.mark.parametrize("reset", [ops.Leak(1.0, 0.5), ops.Identity(), ops.PartialSums(np.eye(3), np.zeros(3))])
    def test_the_reset_must_be_strictly_causal(self, reset):
        with pytest.raises(InputError, match="strictly causal"):
            ops.SpikingNeuron(**(NEURON | {"reset": reset}))


@pytest.mark.parametrize("name", ["na\udc80me", "na\0me"])
def test_a_name_that_no_file_could_hold(name):
    with pytest.raises(InputError, match="is no text that a file could hold"):
        StateMachine((Node(name, ops.Flatten(), ("x",)),), (3,))
