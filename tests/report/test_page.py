"""The page: the verdict first, nothing of a caller's as markup, nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops import Leak
from psu_deploy.report.page import check_installed, page
from psu_deploy.runtime import Structure
from tests.report.conftest import inputs, network, page_of, seen, weights

HOSTILE = "<script>alert('$x^2_{')</script>\u202e"
SECTIONS = ["why", "network", "layers", "spikes", "potentials", "margins", "divergence", "drift", "cost", "repeat"]


class Read(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is closed that is not open."""

    VOID = frozenset({"meta", "br", "path", "circle", "use"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def lead(text):
    found = re.search(r'<h1>(.*?)</h1>.*?<p class="lead">(.*?)</p>', text, re.S)
    return tuple(Read(part).words for part in found.groups())


@pytest.mark.usefixtures("undrawn")
class TestVerdict:
    def test_safe(self, good):
        words, sentence = lead(page(*good))
        assert words == "Safe to deploy"
        assert "How sure" in page(*good)
        compared = 2 * 12 * 5 * 6
        assert (
            sentence
            == f"the other machine gives the same spikes as the state machine: {compared} compared, none differs."
        )

    def test_do_not_deploy_names_layer_and_step(self, wrong, text):
        words, sentence = lead(text)
        first = min(wrong[0].comparisons[0].unexplained, key=lambda one: one.t)
        assert words == "Do not deploy"
        assert "How sure" not in text
        assert f"in layer 'hidden' at step {first.t}, sample {first.sample}, neuron ({first.neuron[0]})" in sentence

    def test_another_tie_rule(self):
        """Whole numbers lie on the threshold, so no margin shows it."""

        def machine(fire_on):
            nodes = (
                Node("fc", ops.Linear(np.eye(2)), ("x",)),
                Node("n", ops.LIFNeuron(None, False, 2.0, "hard", fire_on), ("fc",)),
            )
            return StateMachine(nodes, (2,))

        words, sentence = lead(page_of(machine(">="), machine(">"), np.ones((6, 1, 2), np.float32)))
        assert words == "Do not deploy"
        assert "the first spike to differ is in layer 'n' at step 1, sample 0, neuron (0)" in sentence

    def test_not_proven(self):
        silent = network(threshold=1e9)
        nodes = tuple(node for node in silent.nodes if node.name != "hidden")
        nodes = (nodes[0], Node("between", nodes[1].layer, ("in",)), *nodes[2:])
        machine = StateMachine(nodes, (4,))
        words, sentence = lead(page_of(machine, machine))
        assert words == "Not proven"
        assert "nothing fired" in sentence
        words, sentence = lead(page_of(machine, machine, allow_silent=True))
        assert words == "Safe to deploy as far as it was tried"
        assert "as silent as" in sentence

    @pytest.mark.full
    def test_measured(self, tmp_path):
        artifact = psu.export(network(), tmp_path / "net.onnx", weights="int8")
        report, evidence = seen(network(), artifact)
        text = page(report, evidence)
        words, sentence = lead(text)
        rounded = report.comparisons[0]
        assert words == "Deploy if this rounding is acceptable"
        assert f"changed {rounded.spike_flips} of {rounded.spikes_compared} spikes" in sentence
        assert evidence.collected.judged == "rounded machine"
        assert "Changed by rounding" in text

    def test_a_file_that_does_not_run(self):
        evidence = psu.Evidence()
        evidence.begin(network(), inputs(), None, [("machine", "onnx")])
        structure = Structure(("node 'in' is gone",))
        report = psu.EquivalenceReport((), ("it does not run: it crashed",), structure)
        text = page(report, evidence)
        words, sentence = lead(text)
        assert words == "Do not deploy"
        assert "node 'in' is gone" in sentence
        assert "it does not run: it crashed." in Read(text).words
        assert "nothing to show of them" in Read(text).words

    def test_a_layer_that_never_fired_is_named_at_once(self):
        machine = network(threshold=1e9)
        words, sentence = lead(page_of(machine, machine))
        assert words == "Safe to deploy as far as it was tried"
        assert sentence.endswith("none differs, but layer 'last' never fired.")

    def test_a_file_that_could_not_be_held_against_an_export(self, good):
        report = replace(good[0], structure=Structure(unchecked="another version wrote it"))
        text = page(report, good[1])
        assert lead(text)[0] == "Safe to deploy as far as it was tried"
        assert "was judged by what it does only: another version wrote it." in Read(text).words

    def test_flips_that_rounding_explains(self, good, wrong):
        """Of decisions that are too close, either is right."""
        (comparison,) = wrong[0].comparisons
        edges = tuple(decision._replace(bound=9.0) for decision in comparison.disputed)
        report = psu.EquivalenceReport((replace(comparison, disputed=edges, failures=()),))
        words, sentence = lead(page(report, wrong[1]))
        assert words == "Safe to deploy"
        assert f"differ in {report.spike_flips} of" in sentence
        assert "either is right" in sentence


class TestContents:
    def test_everything_is_there_in_order(self, text):
        read = Read(text)
        assert [one["id"] for one in read.all("section")] == SECTIONS
        assert [one["href"] for one in read.all("a")] == [f"#{name}" for name in SECTIONS]

    def test_the_table_of_layers(self, wrong, text):
        (rows,) = re.findall(r"<caption>Neuron layers.*?<tbody>(.*?)</tbody>", text, re.S)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows.split("</tr>")[:-1]]
        cells = [[Read(cell).words for cell in row] for row in cells]
        flips = [str(layer.spike_flips) for layer in wrong[0].comparisons[0].layers]
        rates = [f"{100 * layer.firing_rate:.3g} %" for layer in wrong[0].comparisons[0].layers]
        assert [row[0] for row in cells] == ["hidden", "last"]
        assert [row[1] for row in cells] == ["V Leak, R StrictLeak", "LIF, tau 2, hard reset"]
        assert [row[3] for row in cells] == rates
        assert [row[4] for row in cells] == ["360", "360"]
        assert [row[5] for row in cells] == flips
        assert [row[7] for row in cells] == ["100 %", "100 %"]

    def test_both_sides_of_the_first_difference(self, wrong, text):
        first = wrong[1].collected.first.first
        words = Read(text).words
        for side in first.sides:
            assert f"{side.potential:.9g}" in words
            assert f"{side.margin:.9g}" in words
        assert "no rounding explains it" in words

    def test_the_command_and_the_hashes(self, text):
        words = Read(text).words
        assert "psu-deploy verify a b" in words
        assert network().content_hash in words
        assert hashlib.sha256(inputs().tobytes()).hexdigest() in words

    @pytest.mark.full
    @pytest.mark.usefixtures("undrawn")
    def test_of_an_artifact_its_file_too(self, tmp_path):
        artifact = psu.export(network(), tmp_path / "net.onnx")
        words = Read(page_of(network(), artifact)).words
        assert hashlib.sha256(artifact.path.read_bytes()).hexdigest() in words
        assert f"onnx {artifact.versions['onnx']}" in words
        assert "psu_deploy.verify(model, " in words

    def test_operations_are_called_an_estimate(self, text):
        assert "an estimate" in Read(text).words

    @pytest.mark.usefixtures("undrawn")
    def test_branches_and_shapes_are_drawn(self):
        nodes = (
            Node("a", ops.Linear(weights(4, 4)), ("x",)),
            Node("n", ops.LIFNeuron(2.0, True, 0.3, "hard", ">="), ("a",)),
            Node("sum", ops.Add(), ("n", "a")),
            Node("both", ops.Outputs(("sum", "spikes")), ("sum", "n")),
        )
        machine = StateMachine(nodes, (4,))
        text = page_of(machine, machine)
        assert "sum 4, spikes 4" in Read(text).words
        assert len(re.findall('stroke="var\\(--first\\)" stroke-width="2.5"', text)) == 2  # from n, to sum and both
        assert len(re.findall('stroke="var\\(--quiet\\)" stroke-width="1.25"', text)) == 4


class TestOddNetworks:
    def test_no_neuron_at_all(self):
        machine = StateMachine((Node("fc", ops.Linear(weights(3, 4)), ("x",)),), (4,))
        text = page_of(machine, machine)
        assert "there is no neuron" in lead(text)[1]
        assert [one["id"] for one in Read(text).all("section")] == ["why", "network", "drift", "cost", "repeat"]

    @pytest.mark.full
    @pytest.mark.rows(1)
    @pytest.mark.parametrize("shape", [(1, 1), (170, 2)])
    def test_one_step_one_sample_and_many_steps(self, shape):
        machine = network()
        text = page_of(machine, network(level=0.5), inputs(0, *shape))
        Read(text)
        assert len(text) < 500_000

    @pytest.mark.usefixtures("undrawn")
    def test_an_answer_that_comes_late(self):
        nodes = (
            Node("ahead", ops.TimeConv(weights(4, 4, 3), None, 1, lookahead=2), ("x",)),
            Node("n", ops.LIFNeuron(2.0, True, 0.3, "hard", ">="), ("ahead",)),
        )
        machine = StateMachine(nodes, (4,))
        assert "2 steps" in Read(page_of(machine, machine)).words

    @pytest.mark.usefixtures("undrawn")
    def test_at_random(self):
        machine = StateMachine((Node("n", ops.BernoulliNeuron(Leak(0.4, 0.6), 1), ("x",)),), (4,))
        assert "fires at random" in Read(page_of(machine, machine)).words

    @pytest.mark.nightly
    def test_a_large_one_stays_small(self):
        """40 layers with branches, 4000 neurons each, nearly all of them firing."""
        nodes = [Node("in", ops.Linear(weights(4000, 4)), ("x",))]
        for depth in range(40):
            before = nodes[-1].name
            nodes.append(Node(f"n{depth}", ops.LIFNeuron(None, False, 0.01, "soft", ">="), (before,)))
            nodes.append(Node(f"add{depth}", ops.Add(), (f"n{depth}", before)))
        machine, other = (StateMachine(tuple(nodes), (4,)) for _ in range(2))
        text = page_of(machine, other, inputs(0, 3, 1))
        assert len(text.encode()) < 1_000_000


class TestSafety:
    def test_a_name_is_no_markup(self):
        hostile = page_of(network(HOSTILE), network(HOSTILE))
        read = Read(hostile)
        assert not read.all("script")
        assert "<script>alert('$x^2_{')</script>\\u202e" in read.words
        assert "\u202e" not in hostile

    def test_nothing_comes_from_elsewhere_and_nothing_runs(self, text):
        read = Read(text)
        assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in read.tags}
        for _, attributes in read.tags:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("href", "xlink:href", "src"):
                assert attributes.get(name, "#").startswith("#")
        assert not re.findall(r"url\((?!#)|@import", text)
        (policy,) = (one for one in read.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")

    def test_ids_are_unique_and_referred_to(self, text):
        tags = Read(text).tags
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        used = {value[1:] for _, one in tags for name, value in one.items() if name in ("href", "xlink:href")}
        used |= set(re.findall(r"url\(#([^)]*)\)", text))
        assert used <= set(ids)

    @pytest.mark.full
    def test_the_same_verification_gives_the_same_page(self, text):
        again = page(*seen(network(), network(level=0.5)), command="psu-deploy verify a b")
        assert again == text

    def test_colours_are_those_of_the_page(self, text):
        drawings = re.findall(r'<div class="drawing".*?</div>', text, re.S)
        assert len(drawings) > 8
        for drawing in drawings:
            assert not re.findall(r"#[0-9a-f]{6}", drawing)


@pytest.mark.usefixtures("undrawn")
def test_it_is_written_whole_or_not_at_all(good, tmp_path):
    path = tmp_path / "new" / "report.html"
    assert psu.write_report(path, *good) == path
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(psu.ArtifactError, match="it is a folder"):
        psu.write_report(tmp_path, *good)
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_what_is_missing_is_said(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(psu.MissingExtraError, match=rf"'{module}' is not installed.*psu-deploy\[report\]"):
        check_installed()
