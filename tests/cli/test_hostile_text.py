"""Whatever a name, a version or a reason holds: it is shown, and nothing of it reaches the terminal as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from tests.cli.conftest import small_machine

EVIL = "\x1b[31mred\nline\u202e" + os.fsdecode(b"\x80")
SHOWN = r"\x1b[31mred\nline\u202e\udc80"


def harmless(text):
    return all(character == "\n" or character.isprintable() for character in text)


def test_names_of_files(cli, tmp_path):
    machine = small_machine().save(tmp_path / "net.psm")
    machine.rename(tmp_path / f"{EVIL}.psm")
    for arguments in (["inspect", f"{EVIL}.onnx"], ["export", f"{EVIL}.txt", "--out", "out"]):
        result = cli(*arguments)
        result.failed_with(SHOWN)
        assert harmless(result.err)
    result = cli("inspect", f"{EVIL}.psm")
    assert harmless(result.out + result.err)


@pytest.mark.full
def test_names_in_files(cli, exported):
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "psu_deploy.versions":
            entry.value = json.dumps({EVIL: "1.0 \x1b]0;title\x07", "long": "9" * 10_000})
    exported.write_bytes(model.SerializeToString())
    result = cli("inspect", exported)
    assert result.code == 0
    assert r"\x1b[31mred" in result.out
    assert harmless(result.out)
    assert len(result.out) < 5000


def test_a_table_of_problems_keeps_its_lines(cli, tmp_path):
    """One row for each, as before."""
    torch.save({"state_dict": {"a\x1b[2Jb": torch.zeros(2)}}, tmp_path / "c.pth")
    result = cli("import", "c.pth", "--out", "c.psm")
    result.failed_with(r"a\x1b[2Jb")


def test_a_message_is_cut(cli, tmp_path):
    torch.save({"state_dict": {"a" * 10**6: torch.zeros(2)}}, tmp_path / "c.pth")
    result = cli("import", "c.pth", "--out", "c.psm")
    result.failed_with("c.pth")
    assert len(result.err) < 3000


@pytest.mark.full
def test_nobody_reads_the_output(saved):
    command = [sys.executable, "-m", "psu_deploy", "inspect", str(saved)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(writer)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "error: the output was not written: nobody reads it any more\n"


@pytest.mark.timeout(60)
class TestNoRegularFile:
    """Refused at once: a pipe would wait for ever, a device never ends."""

    @pytest.fixture(params=["fifo", "/dev/zero", "folder"])
    def strange(self, request, tmp_path):
        def make(suffix):
            path = tmp_path / f"strange{suffix}"
            if request.param == "fifo":
                os.mkfifo(path)
            elif request.param == "folder":
                path.mkdir()
            else:
                path.symlink_to(request.param)
            return path

        return make

    @pytest.mark.parametrize("suffix", [".onnx", ".net", ".nir"])
    def test_artifacts(self, cli, strange, suffix):
        cli("inspect", strange(suffix)).failed_with("strange")

    def test_machines_and_checkpoints(self, cli, strange):
        cli("export", strange(".psm"), "--out", "out").failed_with("strange.psm")
        cli("import", strange(".pth"), "--out", "net.psm").failed_with("strange.pth")

    def test_arrays(self, cli, strange, exported):
        cli("run", exported, "--input", strange(".npy"), "--output", "y.npy").failed_with("cannot read")

    def test_recipes(self, cli, strange, tmp_path):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
        shutil.move(strange(".json"), tmp_path / "run" / "recipe.json")
        cli("train", "digits", "--resume", "--out", "run").failed_with("run")


@pytest.mark.full
@pytest.mark.parametrize(
    "options", [["--steps", 10**12], ["--batch", 10**12], ["--steps", 6, "--batch", 10**9], ["--seed", 10**30]]
)
def test_random_input_without_end(cli, saved, exported, options):
    result = cli("verify", saved, exported, *options)
    assert result.code in (0, 2)
    assert "internal error" not in result.err
    if "--seed" not in options:
        result.failed_with("numbers of random input, more than PSU_DEPLOY_MAX_MEMORY allows")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64", "uint16"])
def test_numbers_that_no_checkpoint_of_ours_has(cli, tmp_path, dtype):
    torch.save({"state_dict": {"conv.0.weight": torch.zeros(6, 3, 3).to(getattr(torch, dtype))}}, tmp_path / "c.pth")
    cli("import", "c.pth", "--out", "c.psm").failed_with("expected a plain tensor of float32")


def test_a_tensor_without_numbers(cli, tmp_path):
    torch.save({"state_dict": {"conv.0.weight": torch.zeros(6, 3, 3, device="meta")}}, tmp_path / "c.pth")
    cli("import", "c.pth", "--out", "c.psm").failed_with("or has no numbers (meta)")


def _npy(text, version=b"\x01\x00"):
    header = text.encode("latin1")
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + bytes(64)


HEADERS = {
    "negative": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -4), }\n"),
    "no numbers": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': ('a',), }\n"),
    "overflowing": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n"),
    "objects": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"),
    "many axes": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 99 + "), }\n"),
    "nested": _npy("(" * 9000),
    "not text": _npy("\xff\xfe", b"\x03\x00"),
    "unhashable": _npy("{{}}"),
    "a type that is none": _npy("{'descr': {'a': 1}, 'fortran_order': False, 'shape': (1,), }\n"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_arrays(cli, exported, tmp_path, name):
    (tmp_path / "x.npy").write_bytes(HEADERS[name])
    cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with(
        "x.npy is truncated or is not a .npy file"
    )


@pytest.mark.full
def test_arrays_of_other_kinds(cli, exported, tmp_path):
    for dtype in ("c8", "M8[s]", "V4", [("a", "f4")], "?"):
        np.save("x.npy", np.zeros((6, 2, 4), dtype))
        cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with("x must be float32, got")


@pytest.mark.full
@pytest.mark.parametrize("threads", [0, -5, 10**9, 10**20])
def test_threads_that_nobody_has(cli, exported, data, threads):
    result = cli("run", exported, "--input", data, "--output", "y.npy", "--threads", threads)
    result.failed_with("threads must be a whole number in 1..1024")
