"""Files that are not what was written: edited, damaged, forged so that only the numbers can tell."""

from __future__ import annotations

import json
import re
from hashlib import sha256

import pytest

import psu_deploy as psu
from psu_deploy.exporters.c.header import MARK
from tests.exporters.c.integers.made import T, machine, refused, x


def metadata(path, change):
    """The last comment, changed."""
    content, _, written = path.read_text().partition(f"\n{MARK}\n")
    facts = json.loads(written.removesuffix("*/\n"))
    change(facts)
    path.write_text(f"{content}\n{MARK}\n{json.dumps(facts)}\n*/\n")


def forge(path, name, before, after):
    """Change a file, and its hash: nothing but the numbers can tell."""
    file = path.parent / name
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    seen = file.read_text().partition(f"\n{MARK}\n")[0]
    metadata(path, lambda facts: facts["files"].update({name: sha256(seen.encode()).hexdigest()}))


@pytest.mark.full
def test_a_number_of_the_code_that_is_another(path):
    """The reference is made of other data than the code: what is compiled is not believed."""
    forge(path, "net.c", "x % 4096 * factor / 4096", "x % 4096 * factor / 4095")
    report = psu.verify(machine(), path, x())
    assert not report.ok
    (difference,) = report.differences
    assert re.match(r"net\.c, line \d+: there is 'return .* / 4095;', exporting this network gives '", difference)


@pytest.mark.full
def test_a_threshold_of_the_code_that_is_another(path):
    weights = (path.parent / "net_weights.c").read_text()
    begin = re.search(r"const int\d+_t net_l1_threshold\[8\] = \{\n    ", weights).group()
    forge(path, "net_weights.c", begin, f"{begin}-")
    report = psu.verify(machine(), path, x())
    assert not report.ok
    assert report.comparisons[1].spike_flips
    assert "C, whole numbers does not repeat the integer reference" in report.verdict


@pytest.mark.parametrize("name", ["net.c", "net.h", "net_weights.c"])
def test_an_edited_file(path, name):
    file = path.parent / name
    file.write_text(file.read_text().replace("/*", "/* !", 1))
    with refused(f"{name} is not what was written together with net.c: it was edited, damaged"):
        psu.load(path)


EVIL = "static void evil(void) {}"


@pytest.mark.parametrize("name", ["net.h", "net_weights.c"])
def test_code_behind_the_mark_of_another_file(path, name):
    """Only `net.c` has metadata: the others are compared to their end."""
    file = path.parent / name
    file.write_text(f"{file.read_text()}\n{MARK}\n*/\n{EVIL}\n")
    seen = sha256(file.read_bytes()).hexdigest()
    metadata(path, lambda facts: facts["files"].update({name: seen}))
    differences = psu.load(path, compiled=False).structure(machine()).differences
    assert any(repr(EVIL) in difference for difference in differences)


def test_code_behind_a_second_mark(path):
    text, mark, said = path.read_text().rpartition(f"\n{MARK}\n")
    other = f"{text}{mark}*/\n{EVIL}"
    before, after = (sha256(content.encode()).hexdigest() for content in (text, other))
    assert before in said
    path.write_text(f"{other}{mark}{said.replace(before, after)}")
    with refused("malformed psu-deploy metadata"):
        psu.load(path, compiled=False)


def test_code_in_the_hash_of_the_machine(path):
    metadata(path, lambda facts: facts.update(machine_hash=f"0 * / {EVIL}"))
    with refused("malformed psu-deploy metadata"):
        psu.load(path, compiled=False)


def _weight(facts, **other):
    facts["network"]["1"]["weight"] |= other


DAMAGE = {
    "format": (lambda facts: facts.update(format="psu-deploy.c-int8.9"), "it has format 'psu-deploy.c-int8.9'"),
    "base64": (lambda facts: _weight(facts, int8="@"), "numbers of the network are damaged"),
    "shape": (lambda facts: _weight(facts, shape=[8, 5]), "numbers of the network are damaged"),
    "two kinds": (lambda facts: _weight(facts, int16=""), "numbers of the network lie there as"),
    "a list": (lambda facts: facts["network"]["1"].update(weight=[1]), "there is list among the numbers"),
    "no layer": (lambda facts: facts["network"].pop("1"), "the layers must be 0 (an input), 1, 2, ..."),
    "too large": (
        lambda facts: _weight(facts, int8="gICAgA==", shape=[1, 4]),
        "'weight' must be whole numbers in -127",
    ),
    "code": (lambda facts: facts["code"].update(high=2**22), "its states could leave 24 bits"),
    "names": (lambda facts: facts["trace"].pop(), "there are 1 names for 2 layers"),
    "an identifier": (lambda facts: facts.update(trace=["a", "b; c"]), "malformed psu-deploy metadata"),
    "no report": (lambda facts: facts.pop("report"), "malformed psu-deploy metadata"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_metadata_that_make_no_sense(path, kind):
    change, message = DAMAGE[kind]
    metadata(path, change)
    with refused(message):
        psu.load(path)


COMPILED = {
    "horizon": (lambda facts: facts.update(horizon=T - 1), "'horizon'"),
    "code": (lambda facts: facts["code"].update(low=-1), "'low'"),
    "trace": (lambda facts: facts["trace"].reverse(), "'l1_sent'"),
}


@pytest.mark.full
@pytest.mark.parametrize("kind", COMPILED)
def test_metadata_that_are_not_of_these_sources(path, kind):
    change, name = COMPILED[kind]
    metadata(path, change)
    with pytest.raises(psu.ArtifactError, match=f"metadata say of .*{name}.* is not what is compiled; export it"):
        psu.load(path)


def _layer(facts, **other):
    facts["report"]["layers"][0] |= other


FORGED = {
    "weights": (lambda facts: _layer(facts, weight_error=0.0), "its report, layers 0, weight_error is 0.0, exporting"),
    "bound": (lambda facts: _layer(facts, bound=0.99), "its report, layers 0, bound is 0.99, exporting"),
    "name": (lambda facts: _layer(facts, name="other"), "its report, layers 0, name is 'other', exporting"),
    "total": (lambda facts: facts["report"].update(flip_rate=0.5), "its report, flip_rate is 0.5, exporting"),
    "steps": (lambda facts: facts["report"].update(steps=3), "its report, steps is 3, exporting"),
    "samples": (lambda facts: facts["report"].update(samples=1), "its report, spikes_compared is 96, exporting"),
    "alarms": (lambda facts: facts["report"].update(alarms=["all is well"]), "its report, alarms"),
    "one layer less": (lambda facts: facts["report"]["layers"].pop(), "its report is of 1 layers, exporting"),
    "a layer without spikes": (lambda facts: _layer(facts, flip_rate=None), "it fires, and its rates are"),
    "no share": (lambda facts: _layer(facts, dead=1.5), "a dead share of 1.5 are no shares"),
    "flips": (lambda facts: _layer(facts, firing_before=0.9), "so many flips do not make this of that"),
    "states": (lambda facts: _layer(facts, observed=0.99), "must not fall"),
}


@pytest.mark.full
@pytest.mark.rows(6)
@pytest.mark.parametrize("kind", FORGED)
def test_a_report_that_is_of_no_such_network(path, kind):
    """Whoever reads it believes what rounding did."""
    change, message = FORGED[kind]
    assert not psu.load(path, compiled=False).structure(machine()).differences
    metadata(path, change)
    assert message in "; ".join(psu.load(path, compiled=False).structure(machine()).differences)
