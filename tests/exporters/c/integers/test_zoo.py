"""Every network of the zoo that has integers: those of C are the reference's."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.exporters.integers.pipeline import rounded
from psu_deploy.exporters.integers.reference import Reference
from tests.exporters.c.integers import bare
from tests.zoo import MACHINES, inputs, steps_of

AT_ONCE = 12
SAMPLES = 2


def _integers(names):
    """Name of a row -> its network of whole numbers, and numbers for it, of those that have any."""
    for name in names:
        machine = MACHINES[name]
        x = inputs(machine, steps_of(machine), SAMPLES)
        x = np.repeat(x[:1], len(x), axis=0) if machine.static_input else x
        try:
            network = rounded(machine, x, "max", "", ()).network
        except psu.UnsupportedModelError:
            continue
        yield name, network, encode(network, x)


def _held(folder, names):
    rows = list(_integers(names))
    nets = {f"n{k}": network for k, (_, network, _) in enumerate(rows)}
    inputs = {f"n{k}": numbers for k, (_, _, numbers) in enumerate(rows)}
    found = bare.run(folder, nets, inputs, flags=(*bare.STRICT, "-O0"))
    for key, (name, network, numbers) in zip(nets, rows, strict=True):
        expected = Reference(network, SAMPLES).advance(numbers)
        for sent, wanted in zip(found[key].sent, expected, strict=True):
            np.testing.assert_array_equal(sent.reshape(wanted.shape), wanted, err_msg=name)
    return len(rows)


@pytest.mark.nightly
def test_every_row(tmp_path):
    names = list(MACHINES)
    held = 0
    for start in range(0, len(names), AT_ONCE):
        folder = tmp_path / str(start)
        folder.mkdir()
        part = names[start : start + AT_ONCE]
        if list(_integers(part)):
            held += _held(folder, part)
    assert held > 40
