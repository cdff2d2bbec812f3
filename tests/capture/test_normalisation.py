"""Normalisations, as modules and as functions, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.axes import STEP
from psu_deploy.capture.layers import FUNCTIONS
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal, UnsupportedModelError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PSU
from tests.helpers import ROUNDING, Forward, axes_of, check_capture

MODULES = {
    "LayerNorm": (lambda: nn.LayerNorm(4), (4,), ops.LayerNorm),
    "LayerNorm over two axes": (lambda: nn.LayerNorm((3, 4), eps=0.1), (2, 3, 4), ops.LayerNorm),
    "LayerNorm without bias": (lambda: nn.LayerNorm(4, bias=False), (3, 4), ops.LayerNorm),
    "LayerNorm without numbers": (lambda: nn.LayerNorm(4, elementwise_affine=False), (4,), ops.LayerNorm),
    "RMSNorm": (lambda: nn.RMSNorm(4), (3, 4), ops.RMSNorm),
    "RMSNorm over two axes": (lambda: nn.RMSNorm((3, 4), eps=0.01), (3, 4), ops.RMSNorm),
    "RMSNorm without numbers": (lambda: nn.RMSNorm(4, 0.1, elementwise_affine=False), (4,), ops.RMSNorm),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4,), ops.GroupNorm),
    "GroupNorm on (C, H, W)": (lambda: nn.GroupNorm(3, 6, eps=0.1), (6, 2, 3), ops.GroupNorm),
    "GroupNorm without numbers": (lambda: nn.GroupNorm(1, 4, affine=False), (4, 3), ops.GroupNorm),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3), (3, 4), ops.GroupNorm),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 2), ops.GroupNorm),
    "InstanceNorm1d, tracking": (
        lambda: nn.InstanceNorm1d(3, track_running_stats=True, affine=True),
        (3, 4),
        ops.ChannelAffine,
    ),
    "InstanceNorm2d, tracking": (lambda: nn.InstanceNorm2d(3, track_running_stats=True), (3, 4, 2), ops.ChannelAffine),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3), (3, 2, 4, 2), ops.ChannelAffine),
}


@pytest.mark.parametrize(("make", "features", "kind"), MODULES.values(), ids=MODULES)
def test_module(make, features, kind):
    layer = make()
    for name, tensor in layer.state_dict().items():
        if "num_batches" not in name:
            nn.init.uniform_(tensor, 0.2, 2.0)
    machine = check_capture(SpikingSequential(layer, PSU()), features)
    assert type(machine.nodes[0].layer) is kind


REFUSED = {
    "statistics of the batch": (nn.BatchNorm3d(3, track_running_stats=False), (3, 2, 2, 2), "running statistics"),
    "eps of the precision": (nn.RMSNorm(3, elementwise_affine=False), (3,), "eps=None"),
}


@pytest.mark.parametrize(("layer", "features", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(layer, features, reason):
    with pytest.raises(UnsupportedModelError, match=reason):
        to_state_machine(SpikingSequential(layer, PSU()), features)


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 2.0, shape))


CALLS = {
    "layer_norm": (F.layer_norm, (3,), ((3,),), {}),
    "layer_norm with numbers": (F.layer_norm, (2, 3), ([2, 3], numbers(2, 3), numbers(2, 3)), {"eps": 0.1}),
    "layer_norm of torch": (torch.layer_norm, (3,), ((3,), numbers(3), None, 0.1, False), {}),
    "rms_norm": (F.rms_norm, (3,), ((3,), numbers(3), 0.1), {}),
    "rms_norm without eps": (torch.rms_norm, (3,), ((3,),), {}),
    "group_norm": (F.group_norm, (4, 3), (2,), {"weight": numbers(4), "bias": numbers(4), "eps": 0.1}),
    "group_norm of torch": (torch.group_norm, (4,), (2,), {}),
    "batch_norm": (F.batch_norm, (4, 3), (numbers(4), numbers(4, seed=1), numbers(4)), {}),
    "batch_norm with a bias": (F.batch_norm, (4,), (numbers(4), numbers(4)), {"bias": numbers(4), "eps": 0.1}),
}


@pytest.mark.parametrize(("target", "features", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_call(target, features, args, kwargs):
    x = torch.from_numpy(np.random.default_rng(0).normal(0.5, 2.0, (5, *features)))
    layer = FUNCTIONS[target](Value(x, "x", axes_of(x, STEP)), *args, **kwargs)
    found = StateMachine((Node("a", layer, ("x",)),), features).run(x[None])
    np.testing.assert_allclose(found[0], target(x, *args, **kwargs), **ROUNDING)


@pytest.mark.parametrize(("target", "args"), [(F.group_norm, (1,)), (F.instance_norm, ())])
def test_time_is_not_the_batch(target, args):
    model = Forward(lambda net, x: target(x, *args))
    with pytest.raises(UnsupportedModelError, match="takes its first axis for the batch"):
        to_state_machine(model.double(), (4, 3))


@pytest.mark.parametrize(("mean", "training"), [(None, False), (numbers(4), True)])
def test_batch_statistics(mean, training):
    with pytest.raises(Refusal, match="running statistics"):
        FUNCTIONS[F.batch_norm](
            Value(torch.ones(5, 4), "x", axes_of(torch.ones(5, 4), STEP)), mean, numbers(4), training=training
        )
