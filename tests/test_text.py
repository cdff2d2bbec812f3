"""Text of other people: a terminal obeys none of it, and ordinary writing stays as it is."""

import os

import pytest

from psu_deploy.text import columns, visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\rb\x00c\x7fd\x9be", r"a\rb\x00c\x7fd\x9be"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        (os.fsdecode(b"na\x80me"), r"na\udc80me"),
        ("one\nline\u2028only", r"one\nline\u2028only"),
        ("\U000e0041\ufeff", r"\U000e0041\ufeff"),
    ],
)
def test_what_a_terminal_would_obey(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["netz.psm", "Größe 10 µs", "脉冲神经元", "नेटवर्क\u200d", "a b [red] 100% \\x1b", "\u00a0"]
)
def test_ordinary_writing_stays(text):
    assert visible(text) == text


def test_what_is_long_is_cut_in_the_middle():
    shown = visible("begin " + "x" * 10**6 + " end")
    assert len(shown) <= 200
    assert shown.startswith("begin x")
    assert shown.endswith("x end")
    assert visible("x" * 200) == "x" * 200


def test_lines_stay_lines():
    assert visible_lines("a\n  b\x1b\n") == "a\n  b\\x1b\n"


def test_a_notebook_shows_a_table_once(monkeypatch):
    """In one, rich displays what it prints, captured or not: an empty output beside every table."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shown = []
    monkeypatch.setattr("rich.jupyter.display", lambda *given: shown.append(given))
    assert columns([("layer", "flips"), ("a", "0")], left=1) == ["layer  flips", "a          0"]
    assert not shown
