"""Small files that ask for gigabytes, or for years."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from itertools import pairwise

import h5py
import numpy as np
import onnx
import torch
from onnx import helper

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops, storage
from psu_deploy.training.recipe import Recipe
from tests.zoo import NEURONS, chain

GIGA = 10**9


def _psm(nodes, features, path):
    """A machine whose hash is right."""
    graph = StateMachine.__new__(StateMachine)
    for name, value in {"nodes": tuple(nodes), "input_shape": features, "output": nodes[-1].name}.items():
        object.__setattr__(graph, name, value)
    storage.save(graph, path)


def psm_state(path):
    _psm([Node("a", ops.Delay(100_000), ("x",))], (100_000,), path)


def psm_input(path):
    _psm([Node("a", ops.Flatten(), ("x",))], (GIGA, GIGA), path)


def psm_padding(path):
    _psm([Node("a", ops.MaxPool((1, 1), (GIGA, GIGA), ((0, 60_000), (0, 60_000))), ("x",))], (1, 8, 8), path)


def psm_exponentials(path):
    many = np.full(50_000, 0.5)
    _psm([Node("a", ops.Filter(ops.Exponentials(many, many)), ("x",))], (100_000,), path)


def psm_one_tensor_many_times(path):
    weight = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
    chain((1000,), ops.Linear(weight)).save(path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    graph = json.loads(header["__metadata__"]["machine"])
    (first,) = graph["nodes"]
    graph["nodes"] = [first | {"name": f"n{i}", "inputs": [f"n{i - 1}" if i else "x"]} for i in range(1500)]
    graph["output"] = "n1499"
    header["__metadata__"]["machine"] = json.dumps(graph)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def _state(**tensors):
    return {"state_dict": {"conv.0.weight": torch.zeros(1), **tensors}}


def pth_one_tensor_many_names(path):
    shared = torch.ones(1000, 1000)
    torch.save({"state_dict": {f"conv.{i}.weight": shared for i in range(2000)}}, path)


def pth_views_of_one_storage(path):
    shared = torch.ones(1000, 1000, dtype=torch.float16)
    torch.save({"state_dict": {f"conv.{i}.weight": shared[:, :] for i in range(2000)}}, path)


def pth_compressed(path):
    torch.save(_state(a=torch.zeros(8, 1000, 1000, dtype=torch.int8)), path)
    with zipfile.ZipFile(path) as archive:
        content = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def _pickled(path, program):
    torch.save(_state(), path)
    with zipfile.ZipFile(path) as archive:
        content = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, program if name.endswith("/data.pkl") else data)


def pth_bytearray(path):
    _pickled(path, b"\x80\x02cbuiltins\nbytearray\n" + pickle.BININT + struct.pack("<i", 2**31 - 1) + b"\x85R.")


def pth_a_buffer(path):
    """Of the fifth protocol: its length is believed before its bytes are there."""
    _pickled(path, b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 2**33) + b"a.")


def pth_a_table_of_everything(path):
    _pickled(path, b"\x80\x02}" + pickle.LONG_BINPUT + struct.pack("<I", 2**31) + b".")


def pth_a_key_of_years(path):
    """A tuple of the same tuple twice, sixty times over: its hash takes 2^60 steps."""
    program = b"\x80\x02})" + b"".join(b"q\x00h\x00\x86" for _ in range(60))
    _pickled(path, program + b"K\x01s.")


def pth_copies_of_copies(path):
    pairs = b"(" + b"".join(b"K%cK\x01\x86" % (i % 256) for i in range(50_000)) + b"]" + b"q\x01"
    _pickled(path, b"\x80\x02]q\x01(" + b"h\x01" * 10 + b"e" + b"ccollections\nOrderedDict\nq\x02h\x01\x85R." + pairs)


def pth_many_sets(path):
    _pickled(path, b"\x80\x04" + b"\x8f" * (12 << 20) + b".")


def pth_legacy(path):
    shared = torch.ones(1000, 1000)
    state = {"state_dict": {f"conv.{i}.weight": shared for i in range(2000)}}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def ckpt_one_tensor_many_names(path):
    shared = torch.ones(1000, 1000)
    state = {f"conv.{i}.weight": shared for i in range(2000)}
    torch.save({"epoch": 1, "state_dict": state, "optimizer_states": [], "lr_schedulers": []}, path)


def ckpt_expanded(path):
    state = {"a": torch.zeros(1).expand(200_000, 200_000)}
    torch.save({"epoch": 1, "state_dict": state, "optimizer_states": [], "lr_schedulers": []}, path)


def npy_claims(path):
    np.save(path, np.zeros(1, np.float32))
    path.write_bytes(path.read_bytes().replace(b"(1,), }", b"(4000000000,), }"))


def _npy(path, dtype, entries):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({entries}, 1, 3)}}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def npy_entries_of_no_size(path):
    _npy(path, "|V0", 4 * GIGA)


def npy_texts_of_no_size(path):
    _npy(path, "<U0", 400_000_000)


def npy_header(path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * (8 << 20)
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header)


def _nir(path, change):
    import nir

    ends = {"in": nir.Input(np.array([5])), "out": nir.Output(np.array([5]))}
    nodes = {**ends, "a": nir.Affine(np.ones((5, 5)), np.zeros(5))}
    nir.write(path, nir.NIRGraph(nodes, [("in", "a"), ("a", "out")], {"dt": 1e-4}), compression=None)
    with h5py.File(path, "r+") as file:
        change(file["node/nodes"])


def nir_never_filled(path):
    def change(nodes):
        del nodes["a/weight"]
        nodes["a"].create_dataset("weight", (30_000, 30_000), "i1", chunks=(3000, 30_000), compression=9)

    _nir(path, change)


def nir_a_chunk_larger_than_all(path):
    def change(nodes):
        del nodes["a/weight"]
        nodes["a"].create_dataset("weight", (5, 5), "f8", chunks=(20_000, 20_000), maxshape=(None, None), compression=9)

    _nir(path, change)


def nir_input(path):
    def change(nodes):
        for name in ("in", "out"):
            del nodes[f"{name}/shape"]
            nodes[f"{name}/shape"] = np.array([40_000, 40_000])
        del nodes["a"]
        nodes.create_group("a")
        nodes["a/type"] = "Threshold"
        nodes["a/threshold"] = np.float64(1.0)

    _nir(path, change)


def net_never_filled(path):
    x = np.random.default_rng(0).random((4, 2, 3)).astype(np.float32)
    psu.export(chain((3,), ops.Linear(np.ones((2, 3))), NEURONS["psu"]), path, target="lava", calibration=x)
    with h5py.File(path, "r+") as file:
        del file["layer/1/weight"]
        file["layer/1"].create_dataset("weight", (30_000, 30_000), "i1", chunks=(3000, 30_000), compression=9)


def _onnx(path, change):
    psu.export(chain((3,), NEURONS["rpsu"], ops.Linear(np.eye(3))), path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def _behind(model, *nodes):
    last = next(node for node in model.graph.node if "y" in node.output)
    last.output[list(last.output).index("y")] = "before"
    model.graph.node.extend(nodes)


def onnx_made_from_nothing(path):
    def change(model):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64([1_500_000_000]), "size"))
        made = helper.make_node("ConstantOfShape", ["size"], ["made"])
        total = helper.make_node("ReduceSum", ["made"], ["total"], keepdims=0)
        _behind(model, made, total, helper.make_node("Add", ["before", "total"], ["y"]))

    _onnx(path, change)


def _from_constants(path, constants, *nodes):
    def change(model):
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
        total = helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
        _behind(model, *nodes, total, helper.make_node("Add", ["before", "total"], ["y"]))

    _onnx(path, change)


def onnx_a_range(path):
    """Inference of shapes would make it to see how long it is."""
    ends = {"r0": np.int64(0), "r1": np.int64(100_000_000), "r2": np.int64(1)}
    nodes = helper.make_node("Range", list(ends), ["whole"]), helper.make_node("Cast", ["whole"], ["large"], to=1)
    _from_constants(path, ends, *nodes)


def onnx_products_of_constants(path):
    """An engine would compute them as soon as it opens the file."""
    names = ["v0", *(f"v{i}" for i in range(1, 13))]
    wide = [helper.make_node("Concat", [a, a], [b], axis=i % 2) for i, (a, b) in enumerate(pairwise(names))]
    powers = ["v12", "p1", "p2", "p3", "p4", "large"]
    products = [helper.make_node("MatMul", [a, a], [b]) for a, b in pairwise(powers)]
    _from_constants(path, {"v0": np.ones((64, 64), np.float32)}, *wide, *products)


def onnx_doubled(path):
    def change(model):
        names = ["before", *(f"v{i}" for i in range(30))]
        nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
        total = helper.make_node("ReduceSum", [names[-1]], ["total"], keepdims=0)
        _behind(model, *nodes, total, helper.make_node("Add", ["before", "total"], ["y"]))

    _onnx(path, change)


def onnx_a_loop(path):
    def change(model):
        value = helper.make_tensor_value_info
        steps = [helper.make_node("Identity", ["keep"], ["go"]), helper.make_node("Identity", ["v"], ["w"])]
        inputs = [value("i", 7, []), value("keep", 9, []), value("v", 1, None)]
        body = helper.make_graph(steps, "body", inputs, [value("go", 9, []), value("w", 1, None)])
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(2**62), "times"))
        _behind(model, helper.make_node("Loop", ["times", "", "before"], ["y"], body=body))

    _onnx(path, change)


def onnx_empty_nodes(path):
    _onnx(path, lambda model: None)
    graph = b"\x0a\x00" * (6 << 20)
    length = len(graph)
    varint = b""
    while length > 127:
        varint, length = varint + bytes([length & 127 | 128]), length >> 7
    path.write_bytes(path.read_bytes() + b"\x3a" + varint + bytes([length]) + graph)


def json_long(path):
    path.write_text("[" + "{}," * (8 << 20) + "{}]")


def json_large(path):
    path.write_text(Recipe().to_json().replace('"batch_size": 64', f'"batch_size": {GIGA}'))


BOMBS = {
    name: make
    for name, make in globals().items()
    if name.partition("_")[0] in ("psm", "pth", "ckpt", "npy", "nir", "net", "onnx", "json") and callable(make)
}
"""Name, which begins with the suffix -> writes the file."""
