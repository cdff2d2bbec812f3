"""Every number of the C is that of Python's own integers, and no operation of it is undefined."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from psu_deploy.exporters.c.integers.emit import emit
from psu_deploy.exporters.c.integers.sources import sources_of
from psu_deploy.exporters.integers.reference import Reference
from tests.exporters.c.integers import bare, networks

pytestmark = pytest.mark.full

T, B = 6, 2


def _held(folder, nets):
    inputs = {name: networks.given(net, T, B, seed) for seed, (name, net) in enumerate(nets.items())}
    found = bare.run(folder, nets, inputs)
    for name, net in nets.items():
        expected = networks.run(net, inputs[name])
        for part, sent, wanted in zip(net.layers, found[name], expected, strict=True):
            np.testing.assert_array_equal(sent.reshape(wanted.shape), wanted, err_msg=f"{name}, {part.name}")
    return inputs


def test_every_kind_of_layer(tmp_path):
    nets = dict(networks.quiet())
    inputs = _held(tmp_path, nets)
    for name, net in nets.items():
        sent = Reference(net, B).advance(inputs[name])
        assert all(part.any() for part in sent), name  # a silent layer tells nothing


def test_numbers_as_large_as_they_get(tmp_path):
    nets = {f"n{seed}": networks.loud(seed) for seed in range(2)}
    assert all(emit(net, "n").wide for net in nets.values())
    _held(tmp_path, nets)


@pytest.mark.nightly
@pytest.mark.parametrize("start", range(2, 56, 9))
def test_many_more(tmp_path, start):
    _held(tmp_path, {f"n{seed}": networks.loud(seed) for seed in range(start, start + 9)})


def test_no_floating_point_and_no_library(tmp_path):
    for name, net in networks.quiet():
        for file, content in sources_of(net, bare.SAID, Path(f"{name}.c")).items():
            (tmp_path / file).write_bytes(content)
        text = (tmp_path / f"{name}.c").read_text().partition("/* What psu-deploy")[0]
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(r"\b(float|double|malloc|alloca)\b|\d\.\d", code)
        assert set(re.findall(r"#include [<\"](.*)[>\"]", code)) == {f"{name}.h", "string.h"}
    subprocess.run(["gcc", "-std=c99", "-O2", "-c", f"{name}.c", "-o", "net.o"], cwd=tmp_path, check=True)
    undefined = subprocess.run(["nm", "-u", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert {word for word in undefined.split() if word != "U" and not word.startswith(name)} <= {"memset"}
