"""What runs in Lava computes what fixed_point says, number by number: two implementations, neither knows the other.

A run costs seconds, so that a network here is a long chain of different layers, and the output of each is compared.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from psu_deploy.exporters.integers import fixed_point as fx
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.lava.job import MAIN, run_job
from psu_deploy.numerics.sigmoid_table import knots
from tests.exporters.integers.hand_made import BINARY, GRADED, Numbers, layer, run, write

C = 8


def in_lava(python, path, x, record):
    """Layer -> (T, B, features) of x (T, B, *features)."""
    T, B = x.shape[:2]
    rows = x.swapaxes(0, 1).reshape(B * T, *x.shape[2:])
    result = run_job(python, path.read_bytes(), rows, steps=T, samples=B, record=record, timeout=100)
    last = max(record)
    assert np.array_equal(result.output, result.layers[last])
    return {k: rows.reshape(B, T, -1).swapaxes(0, 1) for k, rows in result.layers.items()}


def assert_exact(python, tmp_path, layers, x, code=BINARY):
    path = write(tmp_path / "network.net", layers, x.shape[2:], code)
    expected = run(layers, x)
    got = in_lava(python, path, x, range(len(layers)))
    for k, (mine, part) in enumerate(zip(expected, layers, strict=True)):
        mine = mine.reshape(*x.shape[:2], -1)
        wrong = np.argwhere(got[k] != mine)
        assert not len(wrong), f"layer {k} {part.name}: {len(wrong)} of {mine.size} differ, first at {wrong[0]}"
        assert 0.02 < (mine != 0).mean() < 0.98 or isinstance(part.neuron, ir.Relay), f"layer {k} {part.name} is idle"


def test_dense_layers_of_every_neuron(lava_python, tmp_path):
    T = 20
    n = Numbers(1, C)
    parts = [
        ("leak and table", n.psu()),
        ("traces, own estimate, raw", n.psu(n.traces(3), n.traces(2), ir.Raw(), n.reset(shift=11), up=2)),
        ("no reset", n.psu(reset=None)),
        ("matrix, levels", n.psu(n.sums(T, T), None, n.levels())),
        ("matrices, strict reset", n.psu(n.sums(T, T), n.sums(T, T), n.table(), n.reset(n.sums(T, T, strict=True)))),
        ("soft", n.lif()),
        ("relayed traces", ir.Relay(3, n.traces(2))),
        ("sliding, after numbers", n.psu(n.sums(1, 4), up=0)),
        ("hard", n.lif(hard=True)),
        ("Loihi's", ir.Cuba(3000, 150)),
        ("nothing", ir.Relay()),
    ]
    layers = [layer(n.dense(10 if k == 0 else C), neuron, C, name=name) for k, (name, neuron) in enumerate(parts)]
    layers[7].synapse.weight[:] //= 16  # what it gets are numbers
    assert_exact(lava_python, tmp_path, layers, n.spikes(T, 4, 10))


def test_the_leak_against_the_equations(lava_python, tmp_path):
    """One raw oracle, with Python's own whole numbers: no code of ours on the other side."""
    T, B, limit = 15, 2, 2**23 - 1
    n = Numbers(12, C)
    neuron = n.psu()
    x = n.spikes(T, B, 10)
    part = n.dense(10)
    path = write(tmp_path / "leak.net", [layer(part, neuron, C)], (10,))
    got = in_lava(lava_python, path, x, [0])[0]

    def over(number, bits):
        return int(number / 2**bits)  # towards zero; exact, the numbers are small

    decay, gain = int(neuron.integrate.decays[0]), int(neuron.integrate.gains[0])
    for b, c in np.ndindex(B, C):
        v = r = 0
        for t in range(T):
            a = sum(int(w) for w, s in zip(part.weight[c], x[t, b], strict=True) if s) + int(part.bias[c])
            v = max(-limit, min(limit, over(v * decay, 12) + over((a << neuron.fraction_bits) * gain, 12)))
            seen = v + int(neuron.integrate.bias[c])
            z = max(-8192, min(8191, seen * int(neuron.estimator.coefficient[c]) >> int(neuron.estimator.shift[c])))
            i, f = divmod(z + 8192, 256)
            low, high = (round(4096 / (1 + math.exp(8 - k / 4))) for k in (i, i + 1))
            left = low + ((high - low) * f >> 8)
            assert got[t, b, c] == (seen - r >= neuron.threshold[c]), (t, b, c)
            q = over(left * int(neuron.reset.coefficient[c]), int(neuron.reset.shift[c]))
            r = over((r + q) * neuron.reset.decay, 12)
    assert 0.1 < got.mean() < 0.9


def test_convolutions(lava_python, tmp_path):
    """Kernels and strides that differ along y and x, dilation, groups, padding, numbers in, flattened at the end."""
    n = Numbers(2, 4, loud=400)
    wide, deep = Numbers(3, 6, loud=400), Numbers(4, 5, loud=400)
    layers = [
        layer(n.conv(2, 4, (3, 5), (1, 2), (1, 2)), n.psu(), (4, 9, 6), name="numbers in"),
        layer(wide.conv(4, 6, (2, 3), dilation=(3, 1), groups=2), wide.lif(), (6, 6, 4), name="dilated, in groups"),
        layer(wide.conv(6, 6, (3, 1), padding=(1, 0), groups=6), ir.Cuba(2000, 90), (6, 6, 4), name="each channel"),
        layer(wide.conv(6, 6, (1, 2)), wide.psu(wide.sums(7, 7), None, wide.levels()), (6, 6, 3), name="matrix"),
        layer(wide.conv(6, 4, (3, 3), (2, 1), (0, 1)), ir.Relay(2, n.traces(2)), (4, 2, 3), name="relayed"),
        layer(deep.dense(24), deep.psu(), (5,), flatten=True, name="flattened"),
    ]
    for number in (0, 5):
        layers[number].synapse.weight[:] //= 16
    assert_exact(lava_python, tmp_path, layers, n.ints(-40, 40, 7, 3, 2, 9, 11), GRADED)


def test_a_single_step_and_an_image_flattened_at_once(lava_python, tmp_path):
    n = Numbers(5, C)
    layers = [
        layer(n.dense(12), n.psu(n.sums(1, 1), None, n.levels()), C, flatten=True, name="matrix of one"),
        layer(n.dense(C), ir.Cuba(4096, 100), C, name="Loihi's"),
        layer(n.dense(C), n.psu(n.sums(1, 1), n.sums(1, 1), n.table(), n.reset(n.sums(1, 1, strict=True))), C),
    ]
    assert_exact(lava_python, tmp_path, layers, n.spikes(1, 40, 2, 3, 2))


def test_states_saturate_at_24_bits(lava_python, tmp_path):
    n = Numbers(6, C, loud=2**22)
    constant = ir.Traces(np.array([4096, 3000]), np.array([4096, -4000]), n.ints(-(2**23), 2**23, C))
    layers = [
        layer(n.dense(4), ir.Relay(8, constant), C, name="traces"),
        layer(n.dense(4), n.psu(n.sums(1, 5), n.traces(2), ir.Raw(), n.reset(shift=11), up=8), C, name="sums"),
        layer(n.dense(C), n.lif(up=8), C, name="potential"),
        layer(n.dense(C), n.psu(constant, None, n.table(), up=8), C, name="all"),
    ]
    layers[1].synapse.weight[:] = 0
    layers[1] = layer(n.dense(C), layers[1].neuron, C, name="sums")
    layers[1].synapse.weight[:] //= 100
    layers[2].synapse.bias[:] = n.ints(-60000, 60000, C)
    layers[3].synapse.bias[:] = n.ints(-60000, 60000, C)
    x = n.ints(-100, 100, 12, 3, 4)
    assert np.abs(run(layers, x)[0]).max() == 2**23 - 1, "nothing saturates: the test tests nothing"
    assert_exact(lava_python, tmp_path, layers, x, GRADED)


@pytest.mark.nightly
def test_weights_of_every_sign(lava_python, tmp_path):
    """Lava treats matrices of one sign in another way than those of both. Spikes go into each."""
    n = Numbers(7, 16)
    every = np.arange(-127, 128)
    matrices = {
        "all numbers": n.random.permuted(np.concatenate([every, [1]])).reshape(16, 16),
        "positive": n.ints(1, 127, 16, 16),
        "not negative": n.ints(0, 127, 16, 16),
        "negative": n.ints(-127, -1, 16, 16),
        "not positive": n.ints(-127, 0, 16, 16),
        "the largest": np.full((16, 16), 127),
        "the smallest": np.full((16, 16), -127),
        "-128": np.full((16, 16), -128),
        "-128 among others": np.where(n.spikes(16, 16), -128, 127),
        "one": np.ones((16, 16), int),
        "zeros": np.zeros((16, 16), int),
    }
    layers = []
    for name, weight in matrices.items():
        layers.append(layer(n.dense(16), n.lif(up=0), 16, name="spikes"))
        layers.append(layer(ir.Dense(weight, n.ints(-9, 9, 16)), ir.Relay(), 16, name=name))
    assert_exact(lava_python, tmp_path, layers, n.spikes(6, 2, 16))


SIGNS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, synapses
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights
for low in range(-128, 128):
    for high in range(low, 128):
        weight = np.array([[low, high, (low + high) // 2]])
        given = synapses.dense(weight)
        mode = determine_sign_mode(given["weights" if "weights" in given else "weight"])
        kept = truncate_weights(clip_weights(given["weight"], mode, num_bits=8), mode, given["num_weight_bits"])
        assert np.array_equal(kept >> -given["weight_exponent"], weight), (low, high, kept)
        assert not ((kept.sum(1) & ((1 << -given["weight_exponent"]) - 1)).any()), (low, high)
weight = np.random.default_rng(0).integers(-127, 128, (260, 2, 3, 3))
wide, groups = synapses.regroup(weight, 130)
assert (wide.shape, groups) == ((260, 4, 3, 3), 65)
for o in range(260):
    first = o // 2 * 2 - o // 4 * 4
    assert np.array_equal(wide[o, first:first + 2], weight[o])
    assert np.count_nonzero(wide[o]) == np.count_nonzero(weight[o])
assert synapses.regroup(weight, 65)[0] is weight
"""


def test_every_range_of_weights_and_many_groups(lava_python):
    command = [lava_python, "-c", SIGNS, MAIN.parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_more_groups_than_lava_counts_to(lava_python, tmp_path):
    n = Numbers(8, 130)
    layers = [layer(n.conv(130, 130, (2, 1), groups=130), ir.Relay(), (130, 1, 1), name="groups")]
    assert_exact(lava_python, tmp_path, layers, n.spikes(2, 2, 130, 2, 1))


PARTS = """
import sys
sys.path.insert(0, sys.argv[1])
import fixed, numpy as np
given = dict(np.load(sys.argv[2]))
table = {name: given[name] for name in ("coefficient", "shift", "knots")}
levels = {name: given[name] for name in ("thresholds", "values")}
np.savez(
    sys.argv[3],
    table=fixed.Table(table)(given["E"]),
    levels=fixed.Levels(levels)(given["E"]),
    scaled=fixed.scale(given["E"], given["factor"], given["shift"]),
)
"""


def test_the_parts_for_every_number(tmp_path):
    """A unit of S' seldom changes a spike, so that networks do not show it. Needs no Lava."""
    n = Numbers(11, 4)
    coefficient, shift = np.array([1, 1, -4096, 4095]), np.array([0, 1, 12, 14])
    E = np.arange(-9000, 9000).reshape(-1, 1) * np.array([1, 2, 1, 3])
    table = ir.Table(coefficient, shift)
    levels = ir.Levels(np.sort(n.random.choice(E[:, 0], (5, 4)), axis=0), n.ints(0, 4096, 6))
    given = {"E": E, "factor": n.ints(-4096, 4096, *E.shape), "knots": knots(), **vars(table), **vars(levels)}
    np.savez(tmp_path / "in.npz", **given)
    subprocess.run([sys.executable, "-c", PARTS, MAIN.parent, tmp_path / "in.npz", tmp_path / "out.npz"], check=True)
    got = np.load(tmp_path / "out.npz")
    assert np.array_equal(got["table"], fx.estimated_spike(table, E))
    assert np.array_equal(got["levels"], fx.estimated_spike(levels, E))
    exact = [int(e) * int(f) / 2 ** int(s) for e, f, s in np.broadcast(E, given["factor"], shift)]
    assert got["scaled"].reshape(-1).tolist() == [int(number) for number in exact], "int() drops the fraction"


# -- others read it too ------------------------------------------------------------------------------------------------

STOCK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
import main
from shim import hdf5
from source import Source
from sink import Sink
folder, steps = Path(sys.argv[2]), 12
if __name__ == "__main__":
    network = hdf5.Network(str(folder / "network.net"), reset_interval=steps, reset_offset=1, input_message_bits=0)
    source = Source(path=str(folder / "x.npy"), shape=network.inp.shape)
    sink = Sink(path=str(folder / "y.npy"), shape=network.out.shape, steps=36, offset=3)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    try:
        source.create_runtime(run_cfg=main._configuration())
        main._run(source, 36 + 3)
    finally:
        source.stop()
"""


def test_lava_dl_itself_reads_a_file_of_loihis_neurons(lava_python, tmp_path):
    """hdf5.Network as lava-dl ships it, without a line of ours in it."""
    n = Numbers(10, 6)
    layers = [
        layer(n.conv(2, 6, (3, 2), (1, 2), (1, 0)), ir.Cuba(3000, 150), (6, 4, 3)),
        layer(n.dense(72), ir.Cuba(2500, 200), 6, flatten=True),
        layer(n.dense(6), ir.Cuba(3500, 80), 6),
    ]
    write(tmp_path / "network.net", layers, (2, 4, 6))
    x = n.spikes(12, 3, 2, 4, 6)
    expected = run(layers, x)[-1]
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1).reshape(36, 2, 4, 6).astype(np.int32))
    done = subprocess.run(
        [lava_python, "-c", STOCK, MAIN.parent, tmp_path], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert 0.05 < expected.mean() < 0.95
    assert np.array_equal(np.load(tmp_path / "y.npy").reshape(3, 12, 6).swapaxes(0, 1), expected)


def test_the_folder_stands_alone(lava_python, tmp_path):
    """Nothing in it imports what is not in it, and no file of it does anything when it is only executed."""
    folder = shutil.copytree(MAIN.parent, tmp_path / "alone", ignore=shutil.ignore_patterns("__pycache__"))
    script = "import pkgutil, sys; sys.path.insert(0, '.')\n"
    script += "for m in pkgutil.iter_modules(['.']): __import__(m.name)\n"
    script += "print(sorted({'psu_deploy', 'torch', 'matplotlib', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([lava_python, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert not (folder / "__init__.py").exists()
