"""The changes that are made: which, where, and what is left alone."""

from __future__ import annotations

import ast

import pytest

from tests.mutation.mutants import mutants_of
from tests.mutation.results import Result, enough, table
from tests.mutation.rooms import ROOMS, covering, files_of
from tests.mutation.run import TREE

CHANGES = {
    "a < b": {"a <= b", "a >= b"},
    "a == b": {"a != b"},
    "a not in b": {"a in b"},
    "a is None": {"a is not None"},
    "a + b": {"a - b"},
    "a // b": {"a * b"},
    "(a) - (b)": {"(a) + (b)"},
    "a and b": {"a or b"},
    "not a": {"(a)"},
    "-a": {"(a)"},
    "3": {"2", "4"},
    "0": {"1", "(0 - 1)"},
    "True": {"False"},
    "0.5": {"0.5 * 2", "0.5 / 4"},
    "0.0": {"1.0"},
    "a[b:]": {"a[:b]", "a[:]"},
    "a[:, -b:]": {"a[:, :-b]", "a[:, :]", "a[:, (b):]"},
    "a[b:c]": {"a[:]"},
    "abs(a)": {"(a)"},
    "max(a, b)": {"(a)", "(b)"},
    "max(a)": set(),
    "np.clip(a, b, c)": {"(a)", "(b)"},
    "a.clamp(b)": {"a"},
    "a | b": set(),
    "'text' + a": set(),
    "f'{a + 1}'": set(),
    "zip(a, b, strict=True)": set(),
    "[a for a in b if c]": {"[a for a in b if True]"},
    "a if b else c": {"a if (not (b)) else c"},
}


@pytest.mark.parametrize(("before", "after"), CHANGES.items(), ids=CHANGES)
def test_expressions(before, after):
    source = f"x = {before}\n"
    assert {mutant.applied_to(source) for mutant in mutants_of(source)} == {f"x = {text}\n" for text in after}


STATEMENTS = {
    "def f(a: int = 3) -> Literal[5]:\n    '''What 7 is.'''\n    return a\n": {
        "a: int = 4",
        "a: int = 2",
        "return None",
    },
    "@given(3)\ndef f():\n    g()\n": {"    pass"},
    "a += b\n": {"a -= b", "pass"},
    "if a:\n    raise E('3 + 4')\n": {"if (not (a)):", "    pass"},
    "x: Final[3] = 1\n": {"x: Final[3] = 0", "x: Final[3] = 2"},
    "__all__ = ['a', 1]\nimport os\nassert a < b\n": set(),
}


@pytest.mark.parametrize(("source", "after"), STATEMENTS.items())
def test_statements(source, after):
    found = [mutant.applied_to(source) for mutant in mutants_of(source)]
    assert len(found) == len(after)
    assert all(any(text in changed for changed in found) for text in after)


def test_columns_count_bytes_and_offsets_characters():
    source = "x = 'ä€' if a < b else 0\n"
    assert "x = 'ä€' if a <= b else 0\n" in {mutant.applied_to(source) for mutant in mutants_of(source)}


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_has_tests_and_every_change_of_it_compiles(room):
    files = files_of(room, TREE)
    assert files
    for file in files:
        assert covering(file, TREE), file
    source = (TREE / files[-1]).read_text()
    for mutant in mutants_of(source):
        assert source[mutant.start : mutant.stop] == mutant.before
        ast.parse(mutant.applied_to(source))


def result(outcome, line=1):
    return Result("verify", "a.py", line, "x = 1", "off by one", "1", "2", 4, outcome, "", 0.1)


def test_a_room_needs_nine_of_ten_and_a_reason_for_the_tenth():
    nine, one = [result("killed")] * 8 + [result("timeout")], result("survived")
    known = {one.key}
    assert enough([*nine, one], known)
    assert not enough([*nine, one], set())
    assert not enough([*nine[:8], one], known)
    assert enough([], set())
    assert any("a.py:1: '1' -> '2' in: x = 1" in line for line in table([*nine, one], set()))
    assert not any("a.py:1" in line for line in table([*nine, one], known))
