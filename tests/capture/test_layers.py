"""Every torch layer that is understood, in every spelling, against the module itself."""

from __future__ import annotations

import pytest
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PSU
from tests.helpers import check_capture

LAYERS = {
    "Linear": (nn.Linear(3, 4), (3,)),
    "Linear without bias": (nn.Linear(3, 4, bias=False), (3,)),
    "Linear over the last axis": (nn.Linear(3, 4), (2, 5, 3)),
    "Conv1d": (nn.Conv1d(2, 4, 3), (2, 7)),
    "Conv1d valid": (nn.Conv1d(2, 4, 3, padding="valid"), (2, 7)),
    "Conv1d same, even kernel": (nn.Conv1d(2, 4, 4, padding="same"), (2, 7)),
    "Conv1d same, even, dilated": (nn.Conv1d(2, 4, 2, padding="same", dilation=3), (2, 7)),
    "Conv1d strided": (nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2), (2, 9)),
    "Conv2d": (nn.Conv2d(2, 4, 3, padding=1), (2, 5, 6)),
    "Conv2d asymmetric": (nn.Conv2d(2, 4, (2, 3), stride=(1, 2), padding=(2, 0), dilation=(1, 2)), (2, 6, 7)),
    "Conv2d same, even kernels": (nn.Conv2d(2, 4, (2, 4), padding="same"), (2, 5, 6)),
    "Conv2d same, one even": (nn.Conv2d(2, 2, (3, 2), padding="same", dilation=(2, 1), groups=2), (2, 5, 6)),
    "BatchNorm1d": (nn.BatchNorm1d(3), (3,)),
    "BatchNorm1d over a length": (nn.BatchNorm1d(3), (3, 4)),
    "BatchNorm2d": (nn.BatchNorm2d(3, eps=0.1), (3, 4, 2)),
    "AvgPool1d": (nn.AvgPool1d(2), (3, 7)),
    "AvgPool1d overlapping": (nn.AvgPool1d(3, stride=1, padding=1), (3, 7)),
    "AvgPool1d padding not counted": (nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False), (3, 7)),
    "AvgPool2d": (nn.AvgPool2d(2), (3, 5, 4)),
    "AvgPool2d asymmetric": (nn.AvgPool2d((2, 3), stride=(1, 2), padding=(1, 0)), (3, 5, 6)),
    "AvgPool2d padding not counted": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (3, 5, 6)),
    "AvgPool2d ceil_mode that fits": (nn.AvgPool2d(2, ceil_mode=True), (3, 4, 6)),
    "MaxPool1d": (nn.MaxPool1d(3, 2, 1), (3, 7)),
    "MaxPool2d": (nn.MaxPool2d(2), (3, 5, 4)),
    "MaxPool2d asymmetric": (nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0)), (3, 5, 6)),
    "MaxPool1d ceil_mode that fits": (nn.MaxPool1d(3, 2, ceil_mode=True), (3, 7)),
    "LPPool1d": (nn.LPPool1d(2, 3, 2), (3, 7)),
    "LPPool1d of no whole number": (nn.LPPool1d(1.5, 2, ceil_mode=True), (3, 6)),
    "LPPool1d that adds up": (nn.LPPool1d(1, 2), (3, 7)),
    "LPPool2d": (nn.LPPool2d(4, (2, 3), (1, 2)), (3, 5, 4)),
    "LPPool2d that takes the largest": (nn.LPPool2d(float("inf"), 2), (3, 5, 4)),
    "LPPool3d": (nn.LPPool3d(0.5, 2), (2, 2, 5, 4)),
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(2), (3, 6)),
    "AdaptiveAvgPool2d to one": (nn.AdaptiveAvgPool2d(1), (3, 5, 7)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((2, 3)), (3, 4, 6)),
    "AdaptiveAvgPool2d one axis": (nn.AdaptiveAvgPool2d((None, 2)), (3, 5, 6)),
    "Flatten": (nn.Flatten(), (3, 4, 2)),
    "Flatten nothing": (nn.Flatten(), (3,)),
    "Flatten from the second axis": (nn.Flatten(start_dim=1, end_dim=-1), (3, 4)),
}
NOTHING = [nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.Identity()]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("layer", "features"), LAYERS.values(), ids=LAYERS)
def test_layer(layer, features):
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(layer.running_mean)
        nn.init.uniform_(layer.running_var, 0.2, 2.0)
        if layer.affine:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    check_capture(SpikingSequential(PSU(), layer, PSU(1.5, 0.3)), features)


def test_batch_norm_without_parameters():
    check_capture(SpikingSequential(nn.BatchNorm2d(3, affine=False), PSU()), (3, 4, 2))


@pytest.mark.parametrize("layer", NOTHING, ids=lambda layer: type(layer).__name__)
def test_layers_that_do_nothing(layer):
    machine = check_capture(SpikingSequential(nn.Linear(3, 4), layer, nn.BatchNorm1d(4), layer, PSU()), (3,))
    assert [type(node.layer).__name__ for node in machine.nodes] == ["Linear", "SpikingNeuron"]


@pytest.mark.parametrize(("layer", "size"), [(nn.Dropout1d(0.5), (4,)), (nn.Dropout2d(0.5), (4, 3))])
def test_channel_dropout_does_nothing(layer, size):
    check_capture(SpikingSequential(nn.Linear(size[-1], 4), layer, PSU()), (2, *size))


@pytest.mark.parametrize("layer", [nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2)])
def test_pool_without_channels(layer):
    """torch takes (T*B, L) for (channels, L) and pools L, which has no name here."""
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(SpikingSequential(layer), (4,))
    assert caught.value.problems[0].path == "0"
