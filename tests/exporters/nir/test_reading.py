"""NIR files: what is read, and what is said about those that are not. Nothing may hang, whatever a file holds."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from psu_deploy.errors import ArtifactError, MissingExtraError
from psu_deploy.exporters.nir.files import check_graph, flatten, read_graph, read_metadata
from tests.exporters.nir.importing.nir_graphs import chain, graph, nir, optional

h5py = optional("h5py")

pytestmark = [pytest.mark.full, pytest.mark.timeout(60)]  # every file is rehearsed in a process of its own

N = 5


def lif(n=N, **change):
    numbers = {"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | change
    return nir.LIF(**{name: np.full(n, value) for name, value in numbers.items()})


def affine(outputs=N, inputs=N):
    return nir.Affine(np.ones((outputs, inputs)), np.zeros(outputs))


def good(**metadata):
    return chain((N,), affine(), lif(), out=(N,), **metadata)


def ends(features=(N,)):
    return {"in": nir.Input(np.array(features)), "out": nir.Output(np.array(features))}


@pytest.fixture(autouse=True)
def _no_rehearsal():
    """Here files are damaged: another process reads them first, as it does for users."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "net.nir"


def written(file, net, change=lambda node: None):
    """A file as NIR writes it, changed by hand."""
    nir.write(file, net, compression=None)
    with h5py.File(file, "r+") as h5:
        change(h5["node"])
    return file


def refusal(file, *said):
    with pytest.raises(ArtifactError) as caught:
        read_graph(file)
    message = str(caught.value)
    assert str(file) in message
    assert all(text in message for text in said), message
    return message


def refused(net, *said):
    with pytest.raises(ArtifactError) as caught:
        check_graph(net)
    message = str(caught.value)
    assert "the NIR graph" in message
    assert all(text in message for text in said), message


class TestReading:
    def test_every_number_as_it_was(self, file):
        net = good(dt=1e-4, note="text", nested={"a": np.arange(3)})
        net.nodes["n0"].weight = np.random.default_rng(0).normal(size=(N, N)).astype(np.float32)
        nir.write(file, net)
        found = read_graph(file)
        assert isinstance(found, nir.NIRGraph)
        assert found.edges == net.edges
        assert found.metadata["note"] == "text"
        assert found.metadata["nested"]["a"].tolist() == [0, 1, 2]
        for name, node in net.nodes.items():
            theirs = nir.read(file, type_check=False).nodes[name].to_dict()
            ours = found.nodes[name].to_dict()
            assert ours.keys() == theirs.keys() == node.to_dict().keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
        assert found.nodes["n0"].weight.dtype == np.float32

    def test_shapes_that_nir_infers_wrong(self, file):
        """NIR takes the first axis of a kernel for both, and forgets the groups."""
        conv = nir.Conv2d((6, 7), np.ones((4, 1, 2, 3)), (1, 2), (0, 1), (1, 1), 2, np.zeros(4))
        pool = nir.SumPool2d(np.array([2, 1]), np.array([2, 1]), np.array([0, 0]))
        net = chain((2, 6, 7), conv, pool, nir.Flatten({"input": np.array([4, 2, 4])}, 0, -1), out=(32,))
        found = read_graph(written(file, net))
        shapes = {name: node.output_type["output"].tolist() for name, node in found.nodes.items()}
        assert shapes == {"in": [2, 6, 7], "n0": [4, 5, 4], "n1": [4, 2, 4], "n2": [32], "out": [32]}
        assert found.nodes["n2"].input_type["input"].tolist() == [4, 2, 4]

    def test_files_from_before_v_reset(self, file):
        cuba = nir.CubaLIF(*np.full((5, N), 0.5))
        net = chain((N,), lif(), cuba, nir.IF(np.ones(N), np.ones(N)), out=(N,))

        def old(node):
            for name in ("n0", "n1", "n2"):
                del node["nodes"][name]["v_reset"]
            del node["nodes/n1/w_in"]

        found = read_graph(written(file, net, old))
        assert all(not found.nodes[name].v_reset.any() for name in ("n0", "n1", "n2"))
        assert found.nodes["n1"].w_in.tolist() == [1.0] * N

    def test_single_numbers_stand_for_all_neurons(self, file):
        found = read_graph(written(file, chain((N,), lif(n=()), out=(N,))))
        assert found.nodes["n0"].tau.shape == ()
        assert found.nodes["n0"].output_type["output"].tolist() == [N]

    def test_subgraphs(self, file):
        inner = graph(ends() | {"a": affine()}, [("in", "a"), ("a", "out")])
        net = graph(ends() | {"sub": inner}, [("in", "sub"), ("sub", "out")])
        flat = flatten(read_graph(written(file, net)))
        assert set(flat.nodes) == {"in", "out", "sub.in", "sub.a", "sub.out"}
        assert set(flat.edges) == {("in", "sub.in"), ("sub.in", "sub.a"), ("sub.a", "sub.out"), ("sub.out", "out")}

    def test_cycles_are_no_reason_to_wait(self, file):
        net = graph(
            ends() | {"a": affine(), "b": affine()},
            [("in", "a"), ("a", "b"), ("b", "a"), ("a", "a"), ("a", "out")],
        )
        assert len(read_graph(written(file, net)).edges) == 5

    def test_without_nir(self, file):
        code = (
            "import sys\n"
            "sys.modules['nir'] = None\n"
            "import psu_deploy as psu\n"
            "try:\n    psu.importers.nir.load('net.nir', dt=1.0)\n"
            "except psu.MissingExtraError as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == (
            "'nir' is not installed; it comes with the 'nir' extra: pip install \"psu-deploy[nir]\""
        ), done.stderr
        assert issubclass(MissingExtraError, ImportError)


class TestDamage:
    def test_missing(self, file):
        refusal(file, "does not exist or is not a file")

    def test_a_folder(self, tmp_path):
        refusal(tmp_path, "does not exist or is not a file")

    @pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n and no more", b"\x80\x04."])
    def test_not_hdf5(self, file, content):
        file.write_bytes(content)
        refusal(file, "is truncated, damaged or not an HDF5 file")

    def test_truncated_anywhere(self, file):
        nir.write(file, good())
        whole = file.read_bytes()
        for end in range(0, len(whole) - 1, len(whole) // 11):
            file.write_bytes(whole[:end])
            refusal(file, "is truncated, damaged or not an HDF5 file")

    @pytest.mark.nightly
    def test_bytes_that_fell_over(self, file, monkeypatch):
        """Each is read, or refused; none hangs, none is another error."""
        monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", "5")
        nir.write(file, good())
        whole, random, read = file.read_bytes(), np.random.default_rng(0), 0
        written_on = np.flatnonzero(np.frombuffer(whole, np.uint8))
        for place in random.choice(written_on, 30):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(random.integers(8))
            file.write_bytes(broken)
            with suppress(ArtifactError):
                read_graph(file)
                read += 1
        assert 0 < read < 30

    def test_one_that_hdf5_never_ends_with(self, file, monkeypatch):
        """A text of three letters claims 255: libhdf5 2.0 then stands in front of an object of size zero, for ever."""
        monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", "5")
        nir.write(file, good(dt=1e-4))
        content = bytearray(file.read_bytes())
        place = content.index(b"GCOL") + 16  # the first object; every one has index, references, size, bytes
        objects = []
        while struct.unpack_from("<H", content, place)[0]:
            objects.append(place)
            place += 16 + (struct.unpack_from("<Q", content, place + 8)[0] + 7) // 8 * 8
        struct.pack_into("<Q", content, objects[-1] + 8, 255)
        file.write_bytes(content)
        refusal(file, "damaged")

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ("while True: pass", "is damaged: HDF5 was not done with it after 1 seconds"),
            ("import os; os.kill(os.getpid(), 11)", "is damaged: HDF5 crashed on it (exit status -11)"),
        ],
    )
    def test_what_happens_elsewhere_is_a_sentence_here(self, file, monkeypatch, tmp_path, what, said):
        from psu_deploy.files.hdf5 import walk

        (tmp_path / "walk.py").write_text(what)
        monkeypatch.setattr(walk, "__file__", str(tmp_path / "walk.py"))
        monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", "1")
        nir.write(file, good())
        refusal(file, said)

    def test_hdf5_of_something_else(self, file):
        with h5py.File(file, "w") as h5:
            h5["weights"] = np.zeros(3)
        refusal(file, "it is an HDF5 file but not NIR: expected a group 'node', found ['weights']")

    def test_a_node_alone_is_no_graph(self, file):
        nir.write(file, affine())
        refusal(file, "holds no NIR graph: expected type 'NIRGraph', found 'Affine'")

    def test_a_group_that_contains_itself(self, file):
        def loop(node):
            node["nodes/n0/metadata"] = node["nodes"]

        refusal(written(file, good(), loop), "contains itself or lies too deep")

    def test_groups_that_double_at_every_level(self, file):
        """Twenty groups, a million ways through them."""

        def double(node):
            group = node.create_group("nodes/n0/metadata")
            for _ in range(20):
                below = group.create_group("a")
                group["b"] = below
                group = below

        refusal(written(file, good(), double), "is there twice, contains itself or lies too deep")

    def test_groups_without_end(self, file):
        refusal(written(file, good(), lambda node: node.create_group("/".join("a" * 40))), "lies too deep")

    @pytest.mark.parametrize(
        "link", [lambda: h5py.SoftLink("/node/nodes"), lambda: h5py.ExternalLink("other.h5", "/secret")]
    )
    def test_links_are_not_followed(self, file, link):
        def change(node):
            node["nodes/n0/metadata"] = link()

        refusal(written(file, good(), change), "n0/metadata points elsewhere; expected the data in the file")

    def test_numbers_in_another_file(self, file, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(800))

        def change(node):
            del node["nodes/n0/bias"]
            node["nodes/n0"].create_dataset("bias", (N,), "f8", external=[(str(tmp_path / "secret"), 0, 8 * N)])

        refusal(written(file, good(), change), "n0/bias", "its numbers lie in another file")

    def test_more_numbers_than_the_file_holds(self, file):
        def change(node):
            del node["nodes/n0/weight"]
            node["nodes/n0"].create_dataset("weight", (1 << 20, 1 << 20), "f8", chunks=(1024, 1024))

        refusal(written(file, good(), change), "n0/weight", "claims (1048576, 1048576)", "raise PSU_DEPLOY_MAX_MEMORY")

    @pytest.mark.parametrize("value", [np.ones(N, "c16"), np.ones(N, [("a", "f4"), ("b", "i4")])])
    def test_what_are_no_numbers(self, file, value):
        def change(node):
            del node["nodes/n0/bias"]
            node["nodes/n0/bias"] = value

        refusal(written(file, good(), change), "n0/bias", "expected numbers or text")


class TestNodes:
    def test_unknown(self, file):
        def change(node):
            node["nodes/n1/type"][()] = "Izhikevich"

        refusal(
            written(file, good(), change), "node 'n1' has the unknown type 'Izhikevich'; expected one of Input, Output"
        )

    def test_without_type(self, file):
        def change(node):
            del node["nodes/n1/type"]

        refusal(written(file, good(), change), "node 'n1' has no type")

    def test_a_name_with_a_slash(self, file):
        net = graph(ends() | {"a/b": affine()}, [("in", "a/b"), ("a/b", "out")])
        refusal(written(file, net), "node 'a' has no type")

    def test_a_field_is_missing_and_another_too_much(self, file):
        def change(node):
            node["nodes/n1"].move("tau", "tau_mem")

        refusal(written(file, good(), change), "node 'n1' (LIF) lacks ['tau'] and has ['tau_mem']", "'v_threshold'")

    def test_parameters_of_several_shapes(self, file):
        def change(node):
            del node["nodes/n1/tau"]
            node["nodes/n1/tau"] = np.ones(3)

        refusal(written(file, good(), change), "'n1' (LIF) cannot be made", "All parameters must have the same shape")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nan(self, file, value):
        net = chain((N,), affine(), lif(r=value), out=(N,))
        refusal(written(file, net), "node 'n1' (LIF): r holds NaN or infinity; expected finite numbers")

    def test_nan_in_an_optional_parameter(self, file):
        net = chain((N,), lif(v_reset=np.nan), out=(N,))
        refusal(written(file, net), "node 'n0' (LIF): v_reset holds NaN")

    @pytest.mark.parametrize("value", [0.0, -0.01])
    def test_a_time_constant_that_is_none(self, file, value):
        refusal(written(file, chain((N,), lif(tau=value), out=(N,))), "node 'n0' (LIF): tau must be above zero")

    def test_text_for_a_number(self, file):
        def change(node):
            del node["nodes/n0/weight"]
            node["nodes/n0/weight"] = "heavy"

        refusal(written(file, good(), change), "node 'n0' (Affine)")

    def test_of_a_class_that_nir_does_not_know(self):
        class Sigmoid(nir.Scale):
            pass

        refused(chain((N,), Sigmoid(np.ones(N)), out=(N,)), "node 'n0' has the unknown type 'Sigmoid'")

    def test_no_graph_at_all(self):
        refused(affine(), "expected a nir.NIRGraph, got Affine")


class TestStructure:
    def test_two_inputs(self, file):
        net = graph(ends() | {"in2": nir.Input(np.array([N]))}, [("in", "out"), ("in2", "out")])
        refusal(written(file, net), "has 2 nodes of type Input 'in', 'in2'; expected exactly one")

    def test_two_outputs(self, file):
        net = graph(ends() | {"out2": nir.Output(np.array([N]))}, [("in", "out"), ("in", "out2")])
        refusal(written(file, net), "has 2 nodes of type Output 'out', 'out2'; expected exactly one")

    def test_no_input(self, file):
        net = graph({"a": affine(), "out": nir.Output(np.array([N]))}, [("a", "out")])
        refusal(written(file, net), "has 0 nodes of type Input")

    def test_no_output(self, file):
        net = graph({"a": affine(), "in": nir.Input(np.array([N]))}, [("in", "a")])
        refusal(written(file, net, lambda node: None), "has 0 nodes of type Output")

    def test_no_nodes(self, file):
        def change(node):
            for name in list(node["nodes"]):
                del node["nodes"][name]

        refusal(written(file, good(), change), "has no nodes")

    def test_no_edges(self, file):
        refusal(written(file, graph(ends(), [])), "no way leads from the input to 'out'")

        def change(node):
            del node["edges"]

        refusal(written(file, good(), change), "has no list of edges")

    @pytest.mark.parametrize("edges", [np.arange(4).reshape(2, 2), np.array([["a", "b", "c"]], "S1"), "in"])
    def test_edges_that_are_none(self, file, edges):
        def change(node):
            del node["edges"]
            node["edges"] = edges

        refusal(written(file, good(), change), "expected 'edges' with two names of nodes in each row")

    def test_an_edge_to_nowhere(self, file):
        net = graph(ends() | {"a": affine()}, [("in", "a"), ("a", "b"), ("a", "out")])
        refusal(written(file, net), "edge ('a', 'b') leads to 'b', which is no node; nodes are 'a', 'in', 'out'")

    def test_an_edge_twice(self, file):
        net = graph(ends() | {"a": affine()}, [("in", "a"), ("in", "a"), ("a", "out")])
        refusal(written(file, net), "edge ('in', 'a') is there twice")

    def test_a_leaf_that_nobody_reads(self, file):
        net = graph(ends() | {"a": affine(), "b": affine()}, [("in", "a"), ("a", "b"), ("a", "out")])
        refusal(written(file, net), "no way leads to the output from 'b'; read it or take it out")

    def test_a_root_that_nothing_feeds(self, file):
        net = graph(ends() | {"a": affine(), "b": affine()}, [("in", "a"), ("b", "a"), ("a", "out")])
        refusal(written(file, net), "no way leads from the input to 'b'; feed it or take it out")

    def test_an_island(self, file):
        net = graph(ends() | {"a": affine(), "b": affine()}, [("in", "out"), ("b", "a"), ("a", "b")])
        refusal(written(file, net), "no way leads from the input to 'a', 'b'")

    def test_ways_into_the_input_and_out_of_the_output(self, file):
        net = graph(ends() | {"a": affine()}, [("in", "a"), ("a", "in"), ("a", "out")])
        refusal(written(file, net), "edge ('a', 'in') leads into an Input")
        net = graph(ends() | {"a": affine()}, [("in", "a"), ("out", "a"), ("a", "out")])
        refusal(written(file, net), "edge ('out', 'a') leads out of an Output")

    def test_a_subgraph_with_two_outputs(self, file):
        inner = graph(ends() | {"more": nir.Output(np.array([N]))}, [("in", "out"), ("in", "more")])
        net = graph(ends() | {"sub": inner}, [("in", "sub"), ("sub", "out")])
        refusal(written(file, net), "subgraph 'sub' has 2 nodes of type Output")

    def test_a_subgraph_that_contains_itself(self):
        net = graph(ends(), [("in", "out")])
        net.nodes["sub"] = net
        net.edges = [("in", "sub"), ("sub", "out")]
        refused(net, "subgraphs in more than 16 subgraphs")

    def test_names_that_are_none(self):
        refused(graph(ends() | {"": affine()}, [("in", ""), ("", "out")]), "a node is called ''; expected text")
        refused(graph(ends(), [("in", "out", "in")]), "must be a pair of names")


def conv(shape=(2, 2, 3, 3), features=None, stride=(1, 1), padding=(0, 0), groups=1, bias=2):
    return nir.Conv2d(features, np.ones(shape), stride, padding, (1, 1), groups, np.zeros(bias))


class TestShapes:
    @pytest.mark.parametrize(
        ("features", "node", "said"),
        [
            ((4,), lif, "its parameter tau has shape (5,); expected (4,), or a single number"),
            ((5, 2), lif, "its parameter tau has shape (5,); expected (5, 2)"),
            ((4,), affine, "its weight has shape (5, 5), (..., out, in)"),
            ((5,), lambda: nir.Affine(np.ones((3, 5)), np.zeros(4)), "its bias has shape (4,); expected (3,)"),
            ((3, 6, 6), conv, "its weight has shape (2, 2, 3, 3), (out, in/groups, kernel) with groups=1"),
            ((2, 6), conv, "its weight has shape (2, 2, 3, 3)"),
            ((2, 6, 6), lambda: conv(groups=2), "with groups=2"),
            ((2, 6, 6), lambda: conv(groups=0), "groups must be at least 1"),
            ((2, 6, 6), lambda: conv(bias=3), "its bias has shape (3,); expected (2,)"),
            ((2, 6, 6), lambda: conv(features=(5, 6)), "its input_shape is (5, 6), expected (6, 6)"),
            ((2, 2, 6), conv, "a window of (3, 3) does not fit an input of (2, 6)"),
            ((2, 6, 6), lambda: conv(stride=(2, 2), padding="same"), "padding 'same' has a meaning for stride 1 only"),
            ((2, 6, 6), lambda: conv(stride=(0, 1)), "stride must be at least 1"),
            ((2, 6, 6), lambda: conv(stride=(1.5, 1)), "stride must be whole numbers"),
            ((2, 6, 6), lambda: conv(padding=(1, 1, 1)), "padding must have 2 entries, got 3"),
            ((4,), lambda: nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), "expected (channels"),
            ((4, 2), lambda: nir.Flatten({"input": None}, 0, 2), "start_dim=0 and end_dim=2 are no axes of it"),
            ((4, 2), lambda: nir.Flatten({"input": np.array([2, 4])}, 0, 1), "its input_type is (2, 4)"),
        ],
    )
    def test_that_do_not_fit(self, features, node, said):
        refused(chain(features, node(), out=(1,)), f"node 'n0' ({type(node()).__name__})", str(features), said)

    def test_of_the_output(self, file):
        net = chain((N,), affine(), out=(4,))
        refusal(written(file, net), "node 'out' (Output) gets features of shape (5,): its own shape is (4,)")

    def test_of_a_batch(self):
        """What an exporter writes that was given a sample with a batch."""
        refused(chain((2, N), affine(), out=(2, N)), "node 'n0' (Affine) gets features of shape (2, 5)")

    def test_that_differ_between_edges(self, file):
        net = graph(
            ends() | {"a": affine(4), "b": affine(5), "c": nir.Scale(np.array(1.0))},
            [("in", "a"), ("in", "b"), ("a", "c"), ("b", "c"), ("c", "out")],
        )
        message = refusal(written(file, net), "shape")
        assert "(4,)" in message
        assert "(5,)" in message

    @pytest.mark.parametrize("shape", [np.array([]), np.array([0]), np.array([-3]), np.array([2.5]), None])
    def test_of_an_input_that_has_none(self, shape):
        net = chain((N,), affine(), out=(N,))
        net.nodes["in"].output_type = {"output": shape}
        refused(net, "node 'in' (Input)")


class TestMetadata:
    def test_ours(self, file):
        text = json.dumps({"format": 1, "dt": 1e-4, "flavour": "portable"})
        found = read_metadata(read_graph(written(file, good(psu_deploy=text))))
        assert found == {"format": 1, "dt": 1e-4, "flavour": "portable"}

    @pytest.mark.parametrize("dt", [1e-3, np.float32(0.5), np.array(2), 1])
    def test_of_somebody_else(self, file, dt):
        assert read_metadata(read_graph(written(file, good(dt=dt)))) == {"dt": float(dt)}

    def test_none(self, file):
        assert read_metadata(read_graph(written(file, good(author="me")))) == {}

    @pytest.mark.parametrize("text", ["{", "[1]", "", 3])
    def test_that_is_no_dictionary(self, text):
        with pytest.raises(ArtifactError, match="the NIR graph: its metadata 'psu_deploy'"):
            read_metadata(good(psu_deploy=text))

    @pytest.mark.parametrize("dt", [0, -1.0, "fast", float("nan"), True, np.zeros(2)])
    def test_a_time_step_that_is_none(self, dt):
        with pytest.raises(ArtifactError, match="expected seconds per step, a number above 0"):
            read_metadata(good(dt=dt))
