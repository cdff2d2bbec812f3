"""Networks with a forward of their own: skip connections, folded axes, shared modules, readouts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psu_deploy.capture import to_state_machine, trace_module
from psu_deploy.errors import InputError, UnsupportedModelError
from psu_deploy.nn.containers import Lift, Residual, SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSU
from tests.helpers import EVERY_NEURON, Forward, NeuronCase, check_capture, linear


class TestSkipConnections:
    def test_spikes_added_to_currents(self):
        def forward(net, x):
            first = net.n1(net.a(x))
            return net.n2(net.b(first) + first)

        machine = check_capture(Forward(forward, a=linear(3, 5), n1=PSU(), b=linear(5, 5), n2=PSU(1.5, 0.3)), (3,))
        assert machine.spiking == ("n1", "n2")

    @pytest.mark.parametrize("add", [torch.add, lambda a, b: a.add(b)])
    def test_other_ways_to_add(self, add):
        model = Forward(lambda net, x: net.n(add(net.a(x), net.b(x))), a=linear(3, 4), b=linear(3, 4), n=PSU())
        check_capture(model, (3,))

    def test_added_to_itself(self):
        check_capture(Forward(lambda net, x: net.n(net.a(x) + net.a(x)), a=linear(3, 4), n=PSU()), (3,))

    def test_shortcut_with_batch_norm_before_the_sum(self):
        shortcut = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4))
        body = [nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), PSU()]
        check_capture(SpikingSequential(Residual(*body, shortcut=shortcut), PSU()), (2, 6))

    def test_nested_residuals(self):
        inner = Residual(nn.Linear(4, 4), PSU())
        check_capture(SpikingSequential(nn.Linear(3, 4), Residual(Residual(inner), IPSU(7))), (3,))

    def test_added_in_place(self):
        def forward(net, x):
            current = net.a(x)
            current += net.b(x)
            return net.n(current)

        check_capture(Forward(forward, a=linear(3, 4), b=linear(3, 4), n=PSU()), (3,))


def refused_or_right(model, features, B=5):
    """What cannot be captured rightly must be refused."""
    try:
        check_capture(model, features, B=B)
    except UnsupportedModelError:
        return


class TestNothingIsCapturedWrongly:
    """Python whose meaning a recording could miss."""

    def test_other_name_of_a_tensor_changed_in_place(self):
        def forward(net, x):
            current = net.a(x)
            skip = current
            current += net.b(x)
            return net.n(skip + current)

        refused_or_right(Forward(forward, a=linear(3, 4), b=linear(3, 4), n=PSU()), (3,))

    def test_result_of_an_in_place_method_thrown_away(self):
        def forward(net, x):
            current = net.a(x)
            current.add_(net.b(x))
            return net.n(current)

        refused_or_right(Forward(forward, a=linear(3, 4), b=linear(3, 4), n=PSU()), (3,))

    @pytest.mark.parametrize(
        "forward",
        [
            lambda net, x: torch.nn.functional.relu(current := net.a(x), inplace=True) + current,
            lambda net, x: net.relu(current := net.a(x)) + current,
            lambda net, x: net.a(net.relu(x)) + net.a(x),
        ],
    )
    def test_a_relu_that_changes_what_others_read(self, forward):
        """Applied twice it changes nothing more, so it cannot be seen by applying it again."""
        refused_or_right(Forward(forward, a=linear(3, 3), relu=nn.ReLU(inplace=True)), (3,))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bool])
    def test_casts_that_lose_bits(self, dtype):
        forward = Forward(lambda net, x: net.n(net.a(x).to(dtype).to(torch.float64)), a=linear(3, 4), n=PSU())
        refused_or_right(forward, (3,))

    def test_dropout_that_is_always_on(self):
        forward = Forward(lambda net, x: net.a(nn.functional.dropout(x)), a=linear(3, 4))
        with pytest.raises(UnsupportedModelError, match="dropout"):
            to_state_machine(forward, (3,))

    def test_a_hook_that_changes_the_output(self):
        model = SpikingSequential(nn.Linear(3, 4), PSU())
        model[0].register_forward_hook(lambda module, inputs, output: output * 2)
        refused_or_right(model, (3,))

    @pytest.mark.parametrize(
        "forward",
        [
            lambda net, x: net.fc(net.n(x)).sum(0) / x.shape[0],
            lambda net, x: net.fc(net.n(x)).sum(0) / x.shape[1],
            lambda net, x: net.fc(net.n(x)) * x.shape[0],
        ],
    )
    def test_number_of_steps_or_samples_in_the_arithmetic(self, forward):
        """The example has a T and a B of its own; neither may become a constant of the machine."""
        refused_or_right(Forward(forward, n=PSU(), fc=nn.Linear(3, 2)), (3,))

    def test_a_hook_behind_neurons_that_are_silent_on_the_example(self):
        model = SpikingSequential(nn.Linear(3, 4), PSU(threshold=2.0), nn.Linear(4, 2, bias=False))
        model[2].register_forward_hook(lambda module, inputs, output: output * 2)
        nn.init.constant_(model[0].weight, 1.0)
        refused_or_right(model, (3,))

    def test_a_hook_on_neurons_that_are_silent_on_the_example(self):
        model = SpikingSequential(nn.Linear(3, 4), PSU(threshold=3.0), nn.Linear(4, 2))
        model[1].register_forward_hook(lambda module, inputs, output: output * 2)
        nn.init.constant_(model[0].weight, 1.0)
        refused_or_right(model, (3,))

    def test_dropout_behind_neurons_that_are_silent_on_the_example(self):
        forward = Forward(lambda net, x: nn.functional.dropout(net.n(x)), n=PSU(threshold=2.0))
        with pytest.raises(UnsupportedModelError, match="dropout"):
            to_state_machine(forward, (3,))

    @pytest.mark.parametrize("forward", [lambda net, x: net.a(x) * 0.5, lambda net, x: net.a(x) - net.b(x)])
    def test_arithmetic(self, forward):
        refused_or_right(Forward(forward, a=linear(3, 4), b=linear(3, 4)), (3,))

    def test_one_step_broadcast_over_all(self):
        refused_or_right(Forward(lambda net, x: net.a(x) + net.a(x)[0], a=linear(3, 4)), (3,))

    def test_batch_and_time_exchanged(self):
        refused_or_right(Forward(lambda net, x: net.n(net.a(x).transpose(0, 1)), a=linear(3, 4), n=PSU()), (3,))
        refused_or_right(
            Forward(lambda net, x: net.n(net.a(x).reshape(x.shape[1], x.shape[0], 4)), a=linear(3, 4), n=PSU()), (3,)
        )


class TestPointwise:
    @pytest.mark.parametrize(
        ("forward", "kinds"),
        [
            (lambda net, x: net.a(x) * net.b(x), ["Multiply"]),
            (lambda net, x: torch.mul(net.a(x), net.b(x)), ["Multiply"]),
            (lambda net, x: net.a(x).mul(net.b(x)), ["Multiply"]),
            (lambda net, x: net.a(x) * net.a(x) * net.b(x), ["Multiply", "Multiply"]),
            (lambda net, x: torch.relu(net.a(x)), ["Activation"]),
            (lambda net, x: torch.nn.functional.relu(net.a(x)), ["Activation"]),
            (lambda net, x: net.a(x).relu(), ["Activation"]),
            (lambda net, x: torch.sigmoid(net.a(x)), ["Activation"]),
            (lambda net, x: torch.nn.functional.sigmoid(net.a(x)), ["Activation"]),
            (lambda net, x: net.a(x).sigmoid() * net.b(x).relu(), ["Activation", "Activation", "Multiply"]),
            (lambda net, x: 1 - net.a(x), ["ChannelAffine"]),
            (lambda net, x: net.n(net.a(x)) * (1.0 - net.n(net.b(x))), ["ChannelAffine", "Multiply"]),
            (lambda net, x: (net.n(net.a(x)) * net.n(net.b(x))).mean(0), ["Multiply", "Readout"]),
        ],
    )
    def test_of_one_or_two_tensors(self, forward, kinds):
        parts = {"a": linear(3, 4), "b": linear(3, 4), "n": PSU()}
        machine = check_capture(Forward(forward, **parts), (3,), simplified=False)
        found = [type(node.layer).__name__ for node in machine.nodes]
        assert [kind for kind in found if kind not in ("Linear", "SpikingNeuron")] == kinds

    @pytest.mark.parametrize("layer", [nn.ReLU(), nn.Sigmoid(), nn.ReLU(inplace=True)])
    @pytest.mark.parametrize("features", [(4,), (2, 4), (2, 3, 4)])
    def test_modules(self, layer, features):
        check_capture(SpikingSequential(nn.Linear(4, 4), layer, PSU()), features)

    def test_broadcasting(self):
        model = Forward(lambda net, x: net.n(net.a(x) * net.b(x)), a=linear(4, 4), b=linear(4, 1), n=PSU())
        check_capture(model, (3, 4))


class TestFoldedAxes:
    def test_flatten_and_view(self):
        def forward(net, x):
            T, B = x.shape[:2]
            y = net.pool(net.bn(net.conv(x.flatten(0, 1))))
            y = net.n(y.unflatten(0, (T, B)))
            y = net.fc(y.flatten(2).flatten(0, 1))
            return y.view(T, B, -1).mean(0)

        parts = {"conv": nn.Conv2d(2, 4, 3), "bn": nn.BatchNorm2d(4), "pool": nn.MaxPool2d(2), "n": PSU()}
        machine = check_capture(Forward(forward, **parts, fc=nn.Linear(16, 3)), (2, 6, 6))
        assert machine.shapes[machine.output] == (3,)

    @pytest.mark.parametrize(
        "forward",
        [
            lambda net, x: net.n(net.fc(x.flatten(0, 1)).unflatten(0, x.shape[:2])),
            lambda net, x: net.n(net.fc(torch.flatten(x, 0, 1)).reshape(x.shape[0], x.shape[1], 4)),
            lambda net, x: net.n(net.fc(x.reshape(-1, 3)).reshape(x.size(0), x.size(1), -1)),
            lambda net, x: net.n(net.fc(x.contiguous().view(x.shape[0] * x.shape[1], 3)).view(x.size(0), -1, 4)),
            lambda net, x: net.n(net.fc(x)),
        ],
    )
    def test_idioms(self, forward):
        check_capture(Forward(forward, fc=nn.Linear(3, 4), n=PSU()), (3,))

    @pytest.mark.parametrize("T", [1, 2, 3, 12])
    def test_number_of_steps_in_the_code(self, T):
        """A forward may name T where the network has a horizon; no T may be mistaken for the batch."""

        def forward(net, x):
            y = net.fc(x.flatten(0, 1))
            return net.n(y.view(T, -1, 4))

        check_capture(Forward(forward, fc=nn.Linear(3, 4), n=IPSU(T)), (3,), T=T, B=2)

    @pytest.mark.parametrize("features", [(3,), (4,), (12,), (3, 4), (12, 3)])
    def test_features_as_large_as_time_and_batch(self, features):
        """The example that capture runs has T and B of a few steps; features of that size must not confuse it."""
        model = SpikingSequential(nn.Flatten(), nn.Linear(torch.Size(features).numel(), 12), PSU(), nn.Linear(12, 3))
        check_capture(model, features)


class TestSharedModules:
    def test_called_twice(self):
        def forward(net, x):
            return net.n(net.fc(net.n(net.fc(x))))

        machine = check_capture(Forward(forward, fc=linear(4, 4), n=PSU()), (4,))
        assert len(machine.spiking) == 2

    def test_neurons_called_twice_have_a_state_each(self):
        parts = {"a": linear(3, 4), "b": linear(3, 4), "n": PSU()}
        machine = check_capture(Forward(lambda net, x: net.n(net.a(x)) + net.n(net.b(x)), **parts), (3,))
        assert len(machine.state_spec) == 4

    def test_under_two_names(self):
        neuron = PSU()
        parts = {"a": linear(3, 4), "b": linear(4, 4), "n1": neuron, "n2": neuron}
        check_capture(Forward(lambda net, x: net.n2(net.b(net.n1(net.a(x)))), **parts), (3,))

    def test_repeated_in_a_sequential(self):
        neuron = PSU()
        machine = check_capture(SpikingSequential(nn.Linear(3, 4), neuron, nn.Linear(4, 4), neuron), (3,))
        assert len(machine.spiking) == 2

    def test_first_result_unused(self):
        """The layer that is left is the second call; its spikes must not be compared with those of the first."""

        def forward(net, x):
            net.n(net.a(x))
            return net.n(net.b(x))

        model = Forward(forward, a=linear(3, 4), b=linear(3, 4), n=PSU()).double()
        machine = to_state_machine(model, (3,))
        x = 3 * torch.randn(9, 2, 3, dtype=torch.float64)
        (name,) = machine.spiking
        assert torch.equal(trace_module(model, machine, x).spikes[name], machine.trace(x).spikes[name])

    def test_neuron_called_with_a_keyword(self):
        check_capture(Forward(lambda net, x: net.n(x=net.a(x)), a=linear(3, 4), n=PSU()), (3,))


class TestSmallest:
    @pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
    def test_bare_neuron(self, case: NeuronCase):
        machine = check_capture(case.make(7)[0], (3,))
        assert len(machine.nodes) == 1

    def test_bare_layer(self):
        assert len(check_capture(nn.Linear(3, 4), (3,)).nodes) == 1
        check_capture(Lift(nn.Conv2d(1, 2, 3)), (1, 5, 5))

    @pytest.mark.parametrize(
        "name",
        [
            *("x", "step", "add", "flatten", "readout", "layer", "model", "x_t"),
            "affine",
        ],
    )
    def test_any_attribute_name(self, name):
        """Names that mean something to the machine are free for layers of the user."""
        layers = {name: nn.Linear(3, 4), "norm": Lift(nn.BatchNorm1d(4)), "n": PSU()}
        check_capture(Forward(lambda net, x: net.n(net.norm(getattr(net, name)(x))), **layers), (3,))

    @pytest.mark.parametrize("name", ["x", "step", "add", "model"])
    def test_any_name_of_a_neuron(self, name):
        layers = {"fc": nn.Linear(3, 4), name: PSU()}
        check_capture(Forward(lambda net, x: getattr(net, name)(net.fc(x)), **layers), (3,))


class TestReadouts:
    @pytest.mark.parametrize(
        "readout",
        [
            *(lambda y: y.mean(0), lambda y: y.mean(dim=0), lambda y: torch.mean(y, 0), lambda y: torch.mean(y, dim=0)),
            *(lambda y: y.mean([0]), lambda y: y.sum(0), lambda y: torch.sum(y, dim=(0,)), lambda y: y[-1]),
        ],
    )
    def test_over_time(self, readout):
        def forward(net, x):
            return readout(net.fc(net.n(net.a(x))))

        machine = check_capture(Forward(forward, a=linear(3, 5), n=PSU(), fc=linear(5, 2)), (3,))
        x = torch.randn(7, 2, 3, dtype=torch.float64)
        assert machine.run(x).shape == (7, 2, 2)

    def test_after_every_step_it_is_the_readout_so_far(self):
        model = Forward(lambda net, x: net.fc(net.n(x)).mean(0), n=PSU(), fc=linear(3, 2)).double()
        machine, x = to_state_machine(model, (3,)), torch.randn(7, 2, 3, dtype=torch.float64)
        so_far = torch.stack([model(x[: t + 1]) for t in range(7)])
        torch.testing.assert_close(machine.run(x), so_far.detach(), rtol=1e-12, atol=1e-12)

    def test_head_after_the_mean(self):
        parts = {"a": linear(3, 5), "n": PSU(), "fc": nn.Linear(5, 2)}
        check_capture(Forward(lambda net, x: net.fc(net.n(net.a(x)).mean(0)), **parts), (3,))


class TestExampleInput:
    def test_wrong_features(self):
        with pytest.raises(InputError, match=r"the model fails on an example x of shape \(T, B, \*input_shape\)"):
            to_state_machine(nn.Linear(3, 4), (5,))

    @pytest.mark.parametrize("shape", [(), 0, (0,), (3, -1), (2.5,), "3"])
    def test_shapes_that_are_none(self, shape):
        with pytest.raises(InputError, match="input_shape"):
            to_state_machine(nn.Linear(3, 4), shape)

    def test_one_number(self):
        assert to_state_machine(nn.Linear(3, 4), 3).input_shape == (3,)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_any_parameter_dtype(self, dtype):
        model = SpikingSequential(nn.Linear(3, 4), PSU()).to(dtype)
        (layer, _) = to_state_machine(model, (3,)).nodes
        assert torch.equal(torch.tensor(layer.layer.weight), model[0].weight.double())


@pytest.mark.parametrize(
    "flattened",
    [
        lambda net, x: net.n(net.conv(x)).mean(0).flatten(1),
        lambda net, x: net.n(net.conv(x)).mean(0).reshape(x.shape[1], -1),
        lambda net, x: net.n(net.conv(x))[-1].flatten(1),
    ],
)
def test_what_is_read_out_may_be_flattened(flattened):
    """Behind the decoder there is no time: (B, C, L) -> (B, C*L)."""
    machine = check_capture(Forward(flattened, conv=Lift(nn.Conv1d(2, 3, 3)), n=PSU()), (2, 6))
    assert machine.shapes[machine.output] == (12,)
