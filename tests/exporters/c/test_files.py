"""Files that are not what was written, compilers that are not there, and what is kept of what they made."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.exporters.c import compiler, export
from psu_deploy.exporters.c.header import MARK
from psu_deploy.machine import ops
from tests.zoo import MACHINES, chain, inputs, neuron, normal

MACHINE = MACHINES["unfolded batch norm"]


@pytest.fixture
def path(tmp_path):
    return psu.export(MACHINE, tmp_path / "net.c", target="c").path


def refused(message, kind=psu.ArtifactError):
    return pytest.raises(kind, match=re.escape(message))


def change(file, before, after, count=1):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, count))


def forge(path, name, before, after):
    """Change a file, and what `net.c` says of it: nothing but the numbers can tell."""
    change(path.parent / name, before, after)
    rehash(path, name)


def rehash(path, name):
    content, _, written = path.read_text().partition(f"\n{MARK}\n")
    facts = json.loads(written.removesuffix("*/\n"))
    seen = content.encode() if name == path.name else (path.parent / name).read_bytes()
    facts["files"][name] = sha256(seen).hexdigest()
    path.write_text(f"{content}\n{MARK}\n{json.dumps(facts)}\n*/\n")


@pytest.mark.parametrize("name", ["net.c", "net.h", "net_weights.c"])
def test_an_edited_file(path, name):
    change(path.parent / name, "/*", "/* !")
    with refused(f"{name} is not what was written together with net.c: it was edited, damaged"):
        psu.load(path)


@pytest.mark.parametrize("name", ["net.h", "net_weights.c"])
def test_a_file_is_missing(path, name):
    (path.parent / name).unlink()
    with refused(f"{name}: No such file"):
        psu.load(path)


@pytest.mark.full
def test_a_file_of_another_export(path):
    other = psu.export(MACHINES["psu neuron"], path.parent / "other" / "net.c", target="c").path
    (other.parent / "net.h").replace(path.parent / "net.h")
    with refused("net.h is not what was written together with net.c"):
        psu.load(path)


def test_text_of_others(path):
    path.write_text("int main(void) { return 0; }\n")
    with refused("is a C file but was not written by psu-deploy"):
        psu.load(path)
    path.write_bytes(b"\xff\xfe")
    with refused("is a C file but was not written by psu-deploy"):
        psu.load(path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"psu-deploy.c.1"', '"psu-deploy.c.9"', "it has format 'psu-deploy.c.9'"),
        ('"horizon": null', '"horizon": 0', "malformed psu-deploy metadata"),
        ('"prefix": "net"', '"prefix": "net; system()"', "malformed psu-deploy metadata"),
        ("*/\n", "", "malformed psu-deploy metadata"),
        (
            '"net.h"',
            '"other.h"',
            "its metadata speak of ['net.c', 'net_weights.c', 'other.h'], an export called net.c has",
        ),
    ],
)
def test_metadata_that_make_no_sense(path, before, after, message):
    content, mark, written = path.read_text().partition(f"\n{MARK}\n")
    assert before in written
    written = written[: -len(before)] + after if before == "*/\n" else written.replace(before, after)
    path.write_text(content + mark + (written if before != "*/\n" else written[:-20]))
    with refused(message):
        psu.load(path)


@pytest.mark.full
def test_one_number_that_is_another_is_found(path):
    weights = (path.parent / "net_weights.c").read_text()
    begin = re.search(r"const float net_layer_f_weight\[12\] = \{\n.*\n    \S+ ", weights).group()
    number = weights.partition(begin)[2].split(",")[0]
    forge(path, "net_weights.c", begin + number, begin + "0x1.8p+0f")
    report = psu.verify(MACHINE, path, inputs(MACHINE, 6, 2))
    assert report.status == "NOT EQUIVALENT"
    (difference,) = report.differences
    assert difference == (
        f"net_weights.c: net_layer_f_weight[9] is 1.5, exporting this network gives {float.fromhex(number[:-1])!r}"
    )


@pytest.fixture
def mapped(tmp_path):
    return psu.export(MACHINE, tmp_path / "net.c", target="c", weights_file="bin").path


@pytest.mark.full
def test_numbers_in_a_file_of_their_own(mapped):
    """The same numbers in the same order, so the same bits; nothing of them is compiled."""
    x = inputs(MACHINE, 6, 2)
    runner = psu.load(mapped)
    expected = psu.load(psu.export(MACHINE, mapped.parent / "text" / "net.c", target="c")).run(x)
    np.testing.assert_array_equal(runner.run(x), expected)
    assert psu.verify(MACHINE, runner, x).ok
    assert {file.name for file in mapped.parent.iterdir()} == {"net.c", "net.h", "net.md", "net_weights.bin", "text"}
    first = np.fromfile(mapped.parent / "net_weights.bin", "<f4")[:6]
    np.testing.assert_array_equal(first, MACHINE.nodes[0].layer.weight.transpose(1, 2, 0).astype("f4").ravel()[:6])


@pytest.mark.full
def test_another_number_in_a_file_of_their_own(mapped):
    file = mapped.parent / "net_weights.bin"
    numbers = np.fromfile(file, "<f4")
    numbers[0], numbers[-1] = -9.0, 1.5
    file.write_bytes(numbers.tobytes())
    with refused("net_weights.bin is not what was written together with net.c"):
        psu.load(mapped)
    rehash(mapped, "net_weights.bin")
    first, last = psu.verify(MACHINE, mapped, inputs(MACHINE, 6, 2)).differences
    assert first.startswith("net_weights.bin: net_layer_a_weight[0] is -9.0, exporting this network gives ")
    assert last.startswith("net_weights.bin: net_layer_f_weight[11] is 1.5, exporting this network gives ")


def test_numbers_of_an_earlier_form_are_gone(tmp_path):
    for form, other in (("c", "bin"), ("bin", "c"), ("c", "bin")):
        psu.export(MACHINE, tmp_path / "net.c", target="c", weights_file=form)
        assert (tmp_path / f"net_weights.{form}").exists()
        assert not (tmp_path / f"net_weights.{other}").exists()


def test_numbers_that_are_not_there(tmp_path):
    with refused("no number of this network", psu.InputError):
        psu.export(MACHINES["psu neuron"], tmp_path / "net.c", target="c", weights_file="bin")
    with refused("weights_file must be 'c' (source text) or 'bin'", psu.InputError):
        psu.export(MACHINE, tmp_path / "net.c", target="c", weights_file="text")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_threshold_that_is_another_is_found(path):
    forge(path, "net.c", " - 0.4f;", " - 0.5f;")
    report = psu.verify(MACHINE, path, inputs(MACHINE, 6, 2))
    assert report.status == "NOT EQUIVALENT"
    assert "in net_layer_c: there is 'const float margin = v - r - 0.5f;'" in report.differences[0]


@pytest.mark.full
@pytest.mark.rows(5)
@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ('"horizon": 6', '"horizon": null', "horizon"),
        ('"latency": 0', '"latency": 1', "latency"),
        ('"input_shape": [\n  3\n ]', '"input_shape": [4]', "input_shape"),
        ('"shape": [\n    5,\n    3\n   ]', '"shape": [50, 3]', "a_E"),
        ('"kind": "SpikingNeuron",\n   "shape": [\n    3\n   ]', '"kind": "SpikingNeuron", "shape": [30]', "trace.a_S"),
    ],
)
def test_metadata_are_held_against_what_is_compiled(tmp_path, before, after, what):
    """Nothing is read beyond its end because a file says that it is longer."""
    path = psu.export(MACHINES["rpsu neuron"], tmp_path / "net.c", target="c").path
    content, mark, written = path.read_text().partition(f"\n{MARK}\n")
    assert before in written
    path.write_text(content + mark + written.replace(before, after))
    with refused(f"net.c: what its metadata say of '{what}'"):
        psu.load(path)


def test_an_export_of_another_network(path):
    other = chain((2, 5), *[node.layer for node in MACHINE.nodes][:-2], psu.machine.ops.Linear(normal(2, 6, seed=9)))
    report = psu.verify(other, path, inputs(MACHINE, 6, 2))
    assert report.status == "NOT EQUIVALENT"


def test_what_a_compiler_refuses(path):
    forge(path, "net.c", "static void net_layers(", "static wrong net_layers(")
    with refused("refuses the sources", psu.EngineError):
        psu.load(path)


@pytest.mark.parametrize("cache", ["kept", ""])
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "the C compiler true says that all went well, and wrote nothing, given -O1"),
        ("cc -fsyntax-only", "the C compiler cc -fsyntax-only says that all went well, and wrote nothing, given -O1"),
        ("false", "the C compiler false refuses the sources: it ends with 1 and says nothing; check CC and the flags"),
    ],
)
def test_a_compiler_that_does_nothing(path, monkeypatch, tmp_path, cache, command, message):
    monkeypatch.setenv("PSU_DEPLOY_CACHE", cache and str(tmp_path / cache))
    monkeypatch.setenv("CC", command)
    with refused(message, psu.EngineError):
        psu.load(path)


def test_a_compiler_that_is_no_program(path, monkeypatch, tmp_path):
    program = tmp_path / "program"
    program.write_text("not one")
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))
    with refused(f"the C compiler {program} does not start: [Errno 8] Exec format error", psu.EngineError):
        psu.load(path)


def test_flags_that_write_nothing(path):
    with refused("wrote nothing, given -fsyntax-only -ffp-contract=off -std=c99; check CC", psu.EngineError):
        psu.load(path, flags="-fsyntax-only")


def test_without_a_compiler(path, monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused("there is no C compiler (cc, gcc, clang); install one", psu.MissingExtraError):
        psu.load(path)
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with refused("CC names 'no-such-compiler -O2', which is not there", psu.MissingExtraError):
        psu.export(MACHINE, tmp_path / "new" / "net.c", target="c")
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(psu.MissingExtraError):
        compiler.found()


def test_looking_into_files_compiles_nothing(path, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    runner = psu.load(path, compiled=False)
    assert [layer.name for layer in runner.contents.layers] == [node.name for node in MACHINE.nodes]
    assert not runner.structure(MACHINE).differences
    with refused("there is no C compiler", psu.MissingExtraError):
        runner.run(inputs(MACHINE, 6, 2))


def builds(monkeypatch):
    """Counts how often something is compiled."""
    done, build = [], compiler._build
    monkeypatch.setattr(compiler, "_build", lambda *given: (done.append(given), build(*given))[1])
    return done


@pytest.mark.full
def test_what_was_compiled_is_kept(path, monkeypatch, tmp_path):
    done = builds(monkeypatch)
    psu.load(path)
    assert not done, "its own export has compiled it"
    psu.load(path, flags="-Og")
    psu.load(path, flags="-Og")
    assert len(done) == 1
    monkeypatch.setenv("CC", "gcc")
    psu.load(path, flags="-Og")
    assert len(done) == 2, "another compiler may compile it otherwise"
    monkeypatch.setenv("PSU_DEPLOY_CACHE", "")
    x = inputs(MACHINE, 6, 2)
    np.testing.assert_allclose(psu.load(path).run(x), MACHINE.run(x), rtol=1e-5, atol=1e-5)
    assert len(done) == 3, "nothing is kept"


@pytest.mark.full
def test_what_was_not_used_for_longest_is_forgotten(path, monkeypatch, tmp_path):
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "KEPT", 2)
    done = builds(monkeypatch)
    for flags in ("-O0", "-O0 -g0", "-O0", "-O0 -w", "-O0"):  # the third use of the first keeps it
        psu.load(path, flags=flags)
    assert len(done) == 3
    assert len(list((tmp_path / "cache" / "c").glob("*.so"))) == 2


@pytest.mark.full
def test_a_folder_that_others_may_write_to_is_not_used(path, monkeypatch, tmp_path):
    folder = tmp_path / "cache" / "c"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    done = builds(monkeypatch)
    psu.load(path)
    assert len(done) == 1
    assert not list(folder.iterdir())


TOO_LARGE = {
    "output": chain((2**16, 1), ops.Expand((2**16, 2**16))),
    "input": chain((2**16, 2**16), ops.Reduce("sum", (0,))),
    "state": chain((2**26,), neuron(ops.Exponentials(np.ones(64), np.ones(64)))),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_more_numbers_than_c_counts(tmp_path, kind):
    with refused("4,294,967,296 numbers at once, more than an int of C counts", psu.UnsupportedModelError):
        psu.export(TOO_LARGE[kind], tmp_path / "net.c", target="c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate"), RuntimeError("you can't allocate memory")])
def test_more_memory_than_there_is(tmp_path, monkeypatch, error):
    def check(*_):
        raise error

    monkeypatch.setattr(export, "check_export", check)
    with refused("one sample of this network is 36 bytes of state and of numbers between layers", psu.InputError):
        psu.export(chain((3,), neuron(ops.Leak(0.4, 0.6))), tmp_path / "net.c", target="c")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "net.c").mkdir()
    with refused("it is a folder"):
        psu.export(MACHINE, tmp_path / "net.c", target="c")
    with refused("a C file must end in .c", psu.InputError):
        psu.export(MACHINE, tmp_path / "net.onnx", target="c")


def test_the_numbers_are_checked_before_the_files_are_there(tmp_path, monkeypatch):
    """An exporter that writes what the machine does not compute."""
    monkeypatch.setitem(
        psu.exporters.c.neurons.ESTIMATORS, psu.machine.ops.Sigmoid, psu.exporters.c.neurons._raw_current
    )
    with pytest.raises(psu.InternalError, match="does not compute what the machine computes"):
        psu.export(MACHINES["psu neuron"], tmp_path / "net.c", target="c")
    assert not list(tmp_path.iterdir())


EVIL = "static void evil(void) {}"


def differences(path):
    return psu.load(path, compiled=False).structure(MACHINE).differences


def test_code_in_the_line_of_the_machine(path):
    """Another hash is one of another machine that may compute the same; anything else is code."""
    change(path.parent / "net.h", MACHINE.content_hash, "0" * 64)
    rehash(path, "net.h")
    assert not differences(path)
    forge(path, "net.h", "0" * 64, "*/ #define NET_PREFETCH(p) (y[0] = 1.0f) /*")
    (difference,) = differences(path)
    assert "there is '*     machine  */ #define NET_PREFETCH" in difference


@pytest.mark.parametrize("name", ["net.h", "net_weights.c"])
def test_code_behind_the_mark_of_another_file(path, name):
    """Only `net.c` has metadata: the others are compared to their end."""
    file = path.parent / name
    file.write_text(f"{file.read_text()}\n{MARK}\n*/\n{EVIL}\n")
    rehash(path, name)
    assert any(repr(EVIL) in difference for difference in differences(path))


def metadata_of(path):
    return path.read_bytes().rpartition(f"\n{MARK}\n".encode())


BEHIND = {
    "two beginnings": lambda text, mark, said: text + mark + f"*/\n{EVIL}".encode() + mark + said,
    "code behind it": lambda text, mark, said: text + mark + said + f"{EVIL}\n".encode(),
    "no end": lambda text, mark, said: text + mark + said.removesuffix(b"*/\n"),
    "an end in a string": lambda text, mark, said: (
        text + mark + said.replace(b'"torch": "', f'"torch": "*/ {EVIL} /*'.encode())
    ),
    "two bytes a letter": lambda text, mark, said: (
        text
        + mark
        + said.removesuffix(b"*/\n").decode().replace('"torch": "', '"torch": "\u5c2a\u2f0a').encode("utf-16-le")
        + b"*/\n"
    ),
}
"""What is behind the text of `net.c` -> a file whose hash of the text is right."""


@pytest.mark.parametrize("kind", BEHIND)
def test_code_behind_the_metadata(path, kind):
    """They are one comment, the last: nothing of them is compared, and nothing of them is compiled."""
    damaged = BEHIND[kind](*metadata_of(path))
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    text, mark, said = metadata_of(path)
    if kind == "two beginnings":
        before = sha256(text.partition(mark)[0]).hexdigest().encode()
        path.write_bytes(text + mark + said.replace(before, sha256(text).hexdigest().encode()))
    with refused("malformed psu-deploy metadata"):
        psu.load(path, compiled=False)


def rewrite(path, edit):
    """Change the metadata."""
    text, _, written = path.read_text().rpartition(f"{MARK}\n")
    facts = json.loads(written.removesuffix("*/\n"))
    edit(facts)
    path.write_text(f"{text}{MARK}\n{json.dumps(facts)}\n*/\n")


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: facts["states"].pop(),
        lambda facts: facts["layers"].reverse(),
        lambda facts: facts["outputs"][0].update(name="other"),
        lambda facts: facts.update(fidelity="approximate"),
    ],
    ids=["a state", "layers", "an output", "fidelity"],
)
def test_metadata_are_held_against_an_export(tmp_path, edit):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), psu.PSU(threshold=0.1), nn.Linear(4, 2)), torch.ones(5, 2, 3)
    path = psu.export(net, tmp_path / "net.c", target="c", input_shape=(3,)).path
    assert psu.verify(net, path, x, allow_silent=True).ok
    rewrite(path, edit)
    assert "its metadata say" in psu.verify(net, path, x, allow_silent=True).verdict


def test_numbers_cut_short(tmp_path):
    path = psu.export(MACHINE, tmp_path / "net.c", target="c", weights_file="bin").path
    numbers = tmp_path / "net_weights.bin"
    for size in (numbers.stat().st_size - 4, 5, 0):
        numbers.write_bytes(numbers.read_bytes()[:size])
        rehash(path, numbers.name)
        with refused("numbers, net_weights.bin holds"):
            psu.load(path)


def test_a_damaged_library_is_made_again(path, tmp_path, monkeypatch):
    """In a cache that this process has opened nothing of yet: the system would remember it by its name."""
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    psu.load(path)
    shutil.copytree(tmp_path / "cache", tmp_path / "other")
    (library,) = (tmp_path / "other").rglob("*.so")
    library.write_bytes(library.read_bytes()[:40])
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "other"))
    done = builds(monkeypatch)
    assert psu.verify(MACHINE, psu.load(path), inputs(MACHINE, 4, 2), allow_silent=True).ok
    assert len(done) == 1


@pytest.mark.parametrize("flags", ["'", 3, ["-O2"]])
def test_flags_that_are_none(path, flags):
    with refused("flags", psu.InputError):
        psu.load(path, flags=flags)


@pytest.mark.parametrize("name", ["glue", "psu_traced"])
def test_names_of_the_runner(tmp_path, name):
    with refused("choose another", psu.InputError):
        psu.export(MACHINE, tmp_path / f"{name}.c", target="c")
