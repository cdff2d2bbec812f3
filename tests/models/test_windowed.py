"""The network of windows: against loops over windows and places, streamed and whole, as a machine, refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import InputError, UnsupportedModelError
from psu_deploy.models import WindowedSNN, windows
from psu_deploy.models.window_unit import RandomSpikes, Threshold, WholeImageUnit, WindowUnit
from tests.helpers import check_capture, noise, sigmoid, spikes_by_hook

B = 3
SMALL = {"classes": 4, "image_channels": 2, "size": 16, "patch": 2, "dims": (6, 8), "depths": (2, 1)}


def network(**given):
    torch.manual_seed(0)
    return WindowedSNN(**SMALL | given).eval()


def images(batch=B, **given):
    arguments = SMALL | given
    shape = (batch, arguments["image_channels"], arguments["size"], arguments["size"])
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(0))


def data(dilated, batch=B):
    return windows(images(batch), dilated=dilated)


# -- the unit, window by window ----------------------------------------------------------------------------------------


def convolved(conv, x):
    return F.conv2d(x, conv.layer.weight, conv.layer.bias, padding=conv.layer.padding[0])


def by_hand(unit, image, side):
    """(B, C, H, W): every window in turn; what is fired at a place, averaged over the windows that see it."""
    c1 = c2 = torch.zeros(1, dtype=image.dtype)
    fired, seen = torch.zeros_like(image), torch.zeros_like(image)
    end = image.shape[-1] - side
    for top, left in ((0, 0), (0, end), (end, 0), (end, end)):
        place = (..., slice(top, top + side), slice(left, left + side))
        spikes = (image[place] > 0.5).to(image.dtype)
        handed = 2 * torch.sin(math.pi / 4 * c1 * torch.cos(math.pi / 4 * c2))
        c1 = 0.4 * c1 + convolved(unit.conv1, spikes)
        c2 = 0.4 * handed + convolved(unit.conv2, (c1 > 0.5).to(image.dtype))
        fired[place] += (c2 > 0.5).to(image.dtype)
        seen[place] += 1
    assert seen.min() == 1
    return convolved(unit.mix, fired / seen)


def unit_and_image(kind, size, **options):
    torch.manual_seed(0)
    unit = kind(5, **options).double()
    for conv in (unit.conv1, unit.conv2):
        nn.init.normal_(conv.layer.weight, std=0.4)
    return unit, torch.randn(B, 5, size, size, dtype=torch.float64)


@pytest.mark.parametrize(("overlapping", "size", "side"), [(False, 6, 3), (True, 8, 6), (True, 4, 3)])
def test_windows_of_a_whole_image(overlapping, size, side):
    unit, image = unit_and_image(WholeImageUnit, size, overlapping=overlapping)
    _, fired = spikes_by_hook(unit, image[None])
    assert all(0.05 < spikes.mean() < 0.95 for spikes in fired), [float(spikes.mean()) for spikes in fired]
    torch.testing.assert_close(unit(image[None])[0], by_hand(unit, image, side), rtol=1e-12, atol=1e-12)


def test_windows_one_by_one():
    """The quarters of what the unit makes of the whole image."""
    unit, image = unit_and_image(WindowUnit, 6)
    torch.testing.assert_close(unit(windows(image)), windows(by_hand(unit, image, 3)), rtol=1e-12, atol=1e-12)


def test_the_order_of_the_windows_matters():
    unit, image = unit_and_image(WindowUnit, 6)
    x = windows(image)
    assert not torch.allclose(unit(x), unit(x.flip(0)).flip(0))


def test_quarters_from_the_upper_left_to_the_lower_right():
    quarters = windows(torch.arange(16.0).view(1, 1, 4, 4))
    assert quarters[:, 0, 0].tolist() == [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]]
    whole = torch.rand(2, 3, 4, 4)
    assert torch.equal(windows(whole, dilated=True), whole[None])
    with pytest.raises(InputError, match="must be even to be cut into quarters, got images of 4 x 5"):
        windows(torch.zeros(1, 1, 4, 5))


# -- how spikes are made of numbers ------------------------------------------------------------------------------------


def test_threshold_fires_above_it():
    at = torch.tensor([[[0.5, 0.5 + 1e-6, 0.0, 7.0]]])
    assert Threshold(0.5)(at).flatten().tolist() == [0, 1, 0, 1]


def test_noise_is_made_of_bits():
    """Eight for every number, from the generator that every form has, in Python's own integers."""
    torch.manual_seed(0)
    layer, x = RandomSpikes().eval(), torch.rand(2, B, 2, 3)
    drawn = noise(layer.bits.seed, (2, B, 8, 2, 3))
    bits = (sigmoid(0.0) > drawn).astype(float)
    u = sum(bits[:, :, k] / 2 ** (k + 1) for k in range(8))
    np.testing.assert_array_equal(layer(x), x.numpy() > u)


@pytest.mark.parametrize("training", [True, False])
def test_noise_fires_with_the_probability_it_reads(training):
    """50 000 draws: six standard deviations are 0.0134, and eight bits may add 1/256."""
    torch.manual_seed(0)
    layer = RandomSpikes().train(training)
    for probability in (-0.3, 0.0, 0.1, 0.7, 1.0, 1.3):
        rate = float(layer(torch.full((1, 50, 1000), probability)).mean())
        assert abs(rate - min(max(probability, 0.0), 1.0)) < 0.0134 + (0 if training else 1 / 256)


def test_noise_is_drawn_anew_in_training_only():
    layer, x = RandomSpikes(), torch.full((1, 1, 500), 0.5)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


# -- the network -------------------------------------------------------------------------------------------------------


def test_dilated_windows_in_every_second_block_but_those_of_the_last_stage():
    net = WindowedSNN(size=32, dims=(1, 1, 1, 1), depths=(2, 2, 3, 3), dilated=True)
    units = [module.overlapping for module in net.modules() if isinstance(module, WholeImageUnit)]
    assert units == [False, True, False, True, False, True, False, False, False, False]


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("encoding", ["threshold", "noise"])
def test_every_parameter_learns(dilated, encoding, spiking):
    net = network(dilated=dilated, encoding=encoding, spiking=spiking).train()
    for _ in range(2):  # what fires by chance may be silent once
        (net(data(dilated, 16)) - torch.arange(4.0)).square().sum().backward()
    assert not [path for path, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("spiking", [False, True])
def test_what_weights_read(spiking):
    """Spikes only, but for the first; or else numbers where stages merge and in front of W_1 and W_2."""
    net, numbers = network(spiking=spiking), []
    for name, conv in ((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d)):
        conv.register_forward_pre_hook(
            lambda module, given, name=name: numbers.append(name) if (given[0] * (1 - given[0])).any() else None
        )
    net(data(False))
    mlps = [f"layers.{block}.body.{layer}" for block in (2, 4) for layer in (0, 2)]
    assert numbers == (
        ["layers.0"] if spiking else ["layers.0", *mlps, "layers.5", "layers.7.body.0", "layers.7.body.2"]
    )


@pytest.mark.parametrize("encoding", ["threshold", "noise"])
@pytest.mark.parametrize(("given", "used"), [(None, psu.Rectangle(0.5)), (psu.Atan(3.0), psu.Atan(3.0))])
def test_it_takes_any_surrogate(given, used, encoding):
    neurons = [m for m in network(surrogate=given, encoding=encoding).modules() if isinstance(m, Threshold)]
    assert {neuron.surrogate for neuron in neurons} == {used}


@pytest.mark.parametrize("encoding", ["threshold", "noise"])
def test_built_without_memory(encoding):
    with torch.device("meta"):
        net = WindowedSNN(**SMALL, encoding=encoding)
    net.to_empty(device="cpu").load_state_dict(network(encoding=encoding).state_dict())
    assert torch.equal(net.eval()(data(False)), network(encoding=encoding)(data(False)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dilated", [False, True])
def test_it_runs_in_half_precision(dtype, dilated):
    assert network(dilated=dilated, encoding="noise").to(dtype)(data(dilated).to(dtype)).dtype == dtype


@pytest.mark.full
@pytest.mark.parametrize("dilated", [False, True])
def test_cifar(dilated):
    """At the authors' size: 32 x 32, 48 to 384 channels, 12 blocks."""
    x = windows(torch.rand(1, 3, 32, 32), dilated=dilated)
    with torch.no_grad():
        assert WindowedSNN(dilated=dilated)(x).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 12}, "size must be a multiple of 8"),
        ({"dims": (4,)}, r"dims and depths need a number for every stage, got \(4,\) and \(2, 1\)"),
        ({"dims": (4, 0)}, "dims must be at least 1, got 0"),
        ({"depths": (1, 0)}, "depths must be at least 1, got 0"),
        ({"dilated": True, "depths": (1, 5)}, r"needs two blocks before the last stage, got depths=\(1, 5\)"),
        ({"encoding": "rate"}, "encoding must be one of threshold, noise, got 'rate'"),
        ({"decay": 1.0}, "decay is what is left of a membrane and must be at least 0 and below 1, got 1.0"),
        ({"theta": math.nan}, "theta must be finite"),
        ({"classes": 0}, "classes must be at least 1"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        WindowedSNN(**SMALL | arguments)


@pytest.mark.parametrize("dilated", [False, True])
def test_refuses_the_windows_of_the_other_kind(dilated):
    with pytest.raises(InputError, match=r"needs a sequence \(T, B, 2, .*psu_deploy.models.windows makes it of images"):
        network(dilated=dilated)(data(not dilated))


# -- as a machine ------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_windows_are_the_steps_of_the_machine():
    """Its state between them: the membranes of every unit, of the size of a window."""
    machine = check_capture(network(), (2, 8, 8), T=4)
    per_sample = {name: spec.shape for name, spec in machine.state_spec.items() if "body" in name}
    unit = {"membrane.y": (6, 4, 4), "hand_over.U": (6, 4, 4), "hand_over.V": (6, 4, 4)}
    last = dict.fromkeys(unit, (8, 2, 2))
    expected = {f"layers.{at}.body.0.{role}": s for at, u in ((1, unit), (3, unit), (6, last)) for role, s in u.items()}
    assert {name: shape[-3:] for name, shape in per_sample.items()} == expected
    assert machine.latency == 0


@pytest.mark.full
def test_dilated_windows_are_in_one_step():
    """Nothing but the readout and the noise goes from step to step: every step is an image of its own."""
    machine = check_capture(network(dilated=True), (2, 16, 16), T=2)
    assert set(machine.state_spec) == {"step", "mean().sum"}


@pytest.mark.parametrize(
    ("dilated", "encoding"),
    [
        pytest.param(False, "threshold", marks=pytest.mark.full),
        pytest.param(False, "noise", marks=pytest.mark.full),
        pytest.param(True, "threshold", marks=pytest.mark.full),
        pytest.param(True, "noise", marks=pytest.mark.nightly),
    ],
)
def test_it_is_exported_saved_and_proven(dilated, encoding, tmp_path):
    net, x = network(dilated=dilated, encoding=encoding, depths=(2, 1) if dilated else (1, 1)), data(dilated, 8)
    machine = psu.StateMachine.load(psu.to_state_machine(net, net.input_shape).save(tmp_path / "net.psm"))
    artifact = psu.export(machine, tmp_path / "net.onnx")
    report = psu.verify(net, artifact, x, allow_silent=True)
    assert report.ok, report
    assert "EQUIVALENT" in str(report)
    assert report.spike_flips == 0
    torch.testing.assert_close(machine.run(x)[-1], net(x).detach(), rtol=0, atol=1e-5)


@pytest.mark.nightly
def test_the_authors_size_is_proven_where_weights_read_spikes():
    torch.manual_seed(0)
    net, x = WindowedSNN(spiking=True).eval(), windows(3 * torch.rand(2, 3, 32, 32))
    report = psu.verify(net, psu.to_state_machine(net, net.input_shape), x, allow_silent=True)
    assert report.ok, report


@pytest.mark.full
@pytest.mark.parametrize(
    ("target", "file", "reason"), [("nir", "net.nir", "a sine, which NIR"), ("lava", "net.net", "a sine, which netx")]
)
def test_other_targets_say_why_not(target, file, reason, tmp_path):
    options = {"calibration": data(False).numpy()} if target == "lava" else {}
    with pytest.raises(UnsupportedModelError, match=reason) as error:
        psu.export(network(depths=(1, 1)), tmp_path / file, target=target, input_shape=(2, 8, 8), **options)
    assert "layers.1.body.0.hand_over" in {problem.path for problem in error.value.problems}
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
@pytest.mark.parametrize(("dilated", "spiking", "least"), [(False, False, 0.8), (True, True, 0.7)])
def test_it_learns_digits(dilated, spiking, least, tmp_path):
    """Ten to twenty seconds; chance is 0.1. And what has learned is what is exported."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    order = torch.randperm(len(digits.target))
    x, y = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order]
    sizes = {"image_channels": 1, "size": 8, "patch": 1, "dims": (16, 32), "depths": (2, 1) if dilated else (1, 1)}
    net = WindowedSNN(**sizes, dilated=dilated, spiking=spiking)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(6):
        for batch in torch.randperm(1400).split(64):
            optimiser.zero_grad()
            F.cross_entropy(net(windows(x[batch], dilated=dilated)), y[batch]).backward()
            optimiser.step()
    net.eval()
    test = windows(x[1400:], dilated=dilated)
    with torch.no_grad():
        assert (net(test).argmax(1) == y[1400:]).float().mean() > least
    artifact = psu.export(net, tmp_path / "net.onnx", input_shape=net.input_shape)
    report = psu.verify(net, artifact, test[:, :64])
    assert report.ok, report
