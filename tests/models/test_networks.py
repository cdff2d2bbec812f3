"""The networks of the paper: small ones of every shape, with every neuron, as modules and as machines."""

import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import InputError
from psu_deploy.models import CAUSAL, NEURONS, VGGSNN, CIFARNet, ResNet18, SequentialCIFARNet, SHDNet
from psu_deploy.models.cifarnet import repeated
from psu_deploy.models.sequential_cifar import columns
from tests.helpers import enlivened, spikes_by_hook

T, B = 5, 3
WIDTHS = (3, 3, 4, 4, 4, 4, 5, 5)


def still(*features):
    return repeated(torch.rand(B, *features), T).clone()


NETWORKS = {
    "cifarnet": (lambda n: CIFARNet(n, T=T, widths=WIDTHS, classes=4), lambda: still(3, 16, 16)),
    "resnet18": (lambda n: ResNet18(n, T=T, width=2, classes=4), lambda: still(3, 9, 8)),
    "vggsnn": (lambda n: VGGSNN(n, T=T, widths=WIDTHS, size=16, classes=4), lambda: torch.rand(T, B, 2, 16, 16)),
    "sequential": (
        lambda n: SequentialCIFARNet(n, T=T, channels=4, height=8, classes=4),
        lambda: torch.rand(T, B, 3, 8),
    ),
    "shd": (lambda n: SHDNet(n, T=T, inputs=7, hidden=(9, 8), classes=4), lambda: torch.rand(T, B, 7)),
    "shd, attention": (
        lambda n: SHDNet(n, T=T, inputs=7, hidden=(9, 8), classes=4, attention=True),
        lambda: torch.rand(T, B, 7),
    ),
}
"""Name -> what makes it of a neuron's name, what makes its input."""


def lively(name, neuron):
    """A network that fires, with BatchNorm statistics that are not the ones it was born with."""
    torch.manual_seed(1)
    make, data = NETWORKS[name]
    return enlivened(make(neuron), data, bias=1.0 if "shd" in name else 2.0)


@pytest.mark.rows(5)
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains(name, neuron):
    """Logits of every sample, and a gradient for every parameter."""
    net, x = lively(name, neuron), NETWORKS[name][1]()
    logits = net(x)
    assert logits.shape == (B, 4)
    (logits - torch.arange(4.0)).square().sum().backward()
    silent = [path for path, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


@pytest.mark.rows(3)
@pytest.mark.full
@pytest.mark.parametrize("neuron", CAUSAL)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_machine_is_the_module(name, neuron):
    """In float64, so that no decision hangs on rounding; every layer fires somewhere."""
    net, x = lively(name, neuron).double().eval(), NETWORKS[name][1]().double()
    machine = psu.to_state_machine(net, tuple(x.shape[2:]))
    report = psu.verify(net, machine, x)
    assert report.ok, report
    assert report.spike_flips == 0
    assert machine.latency == (2 if name == "shd, attention" else 0)
    assert any(0 < layer.firing_rate < 1 for layer in report.comparisons[0].layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_psn_has_no_machine(name):
    with pytest.raises(psu.UnsupportedModelError, match="not causal"):
        psu.to_state_machine(NETWORKS[name][0]("psn"), tuple(NETWORKS[name][1]().shape[2:]))


def test_its_own_neurons():
    made = []

    def maker():
        made.append(psu.RPSU(T, threshold=0.25))
        return made[-1]

    net = SHDNet(maker, T=T, inputs=7, hidden=(9, 8, 7))
    assert [module for module in net.modules() if isinstance(module, psu.RPSU)] == made
    assert len(made) == 3


WITH_THRESHOLD = ("psu", "ipsu", "rpsu", "ppsu", "lif", "plif")

AS_PUBLISHED = {
    "resnet18": (0.5, psu.Atan(2.0)),
    "vggsnn": (0.5, psu.PiecewiseLinear(2.0)),
    "shd": (0.3, psu.Atan(2.0)),
    "shd, attention": (0.3, psu.Atan(2.0)),
}
"""Threshold and surrogate of the authors' scripts and of the paper's Table I."""


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_neurons_by_name_are_those_of_the_paper(name, neuron):
    threshold, surrogate = AS_PUBLISHED[name]
    neurons = [m for m in NETWORKS[name][0](neuron).modules() if isinstance(m, psu.nn.neurons.base.Neuron | psu.PSN)]
    assert neurons
    for made in neurons:
        if neuron != "spsn":
            assert made.surrogate == surrogate
        if neuron != "psn":
            assert made.threshold == (threshold if neuron in WITH_THRESHOLD else 0.0)


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_neurons_of_a_function_stay_what_they_are(name):
    neurons = [m for m in NETWORKS[name][0](psu.PSU).modules() if isinstance(m, psu.PSU)]
    assert {(neuron.threshold, neuron.surrogate) for neuron in neurons} == {(1.0, psu.Atan(2.0))}


def firing_rates(net, x):
    return [float(spikes.mean()) for spikes in spikes_by_hook(net, x)[1]]


@pytest.mark.parametrize("neuron", [name for name in CAUSAL if name != "masked_psn"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda n: VGGSNN(n, widths=(8, 8, 12, 12, 16, 16, 16, 16), size=32), (10, 4, 2, 32, 32)),
        (lambda n: SHDNet(n, inputs=100, hidden=(64, 64)), (15, 8, 100)),
        (lambda n: SHDNet(n, inputs=100, hidden=(64, 64), attention=True), (15, 8, 100)),
    ],
    ids=["vggsnn", "shd", "shd, attention"],
)
def test_an_untrained_network_is_neither_silent_nor_saturated(make, shape, neuron):
    """Between 2 % and 60 % in every layer. A masked PSN has no threshold; it starts as its authors say."""
    torch.manual_seed(0)
    events = torch.poisson(torch.full(shape, 0.3))
    assert all(0.02 < rate < 0.6 for rate in firing_rates(make(neuron), events))


def test_columns_are_time():
    images = torch.rand(B, 3, 8, 6)
    assert torch.equal(columns(images)[4, 1], images[1, :, :, 4])


def test_an_image_that_moves_is_refused():
    net = CIFARNet("psu", T=T, widths=WIDTHS)
    with pytest.raises(InputError, match="must be the same at every step"):
        net(torch.rand(T, B, 3, 16, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VGGSNN("gru"), "neuron must be one of psu, ipsu"),
        (lambda: VGGSNN(T=0), "T is a number of steps"),
        (lambda: VGGSNN(widths=(3, 4)), "widths must be 8 numbers of channels"),
        (lambda: VGGSNN(size=20), "size must be a multiple of 16"),
        (lambda: SequentialCIFARNet(height=10), "height must be a multiple of 4"),
        (lambda: SHDNet(hidden=()), "hidden must be one number of neurons or more"),
        (lambda: SHDNet(dropout=1.0), "dropout is a probability"),
        (lambda: SHDNet(classes=0), "classes must be at least 1"),
        (lambda: ResNet18("gru"), "neuron must be one of psu, ipsu"),
        (lambda: ResNet18(width=0), "width must be at least 1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
