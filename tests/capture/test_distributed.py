"""DistributedDataParallel is unwrapped: nothing of it runs, no collective either."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from psu_deploy.capture import to_state_machine, trace_module
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PSU


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.full
def test_no_collective_runs(group, monkeypatch):
    model = SpikingSequential(nn.Linear(3, 4), nn.BatchNorm1d(4), PSU(threshold=0.1))
    wrapped = nn.parallel.DistributedDataParallel(model)

    def forbidden(*args, **kwargs):
        raise AssertionError("a collective while the network is captured")

    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "forward", forbidden)
    machine = to_state_machine(wrapped, (3,))
    assert machine.content_hash == to_state_machine(model, (3,)).content_hash
    x = torch.randn(5, 2, 3)
    assert torch.equal(trace_module(wrapped, machine, x).output, model.eval()(x))
