"""The exceptions: one tree, messages that a person can act on."""

from __future__ import annotations

import pickle
import re

import pytest

from psu_deploy import errors
from psu_deploy.errors import MissingExtraError, Problem, PsuDeployError, UnsupportedModelError, require

PROBLEMS = [
    Problem("blocks.0.norm", "LayerNorm", "no converter for this type", "use BatchNorm"),
    Problem("head", "GELU", "not linear", "remove it"),
]


def test_the_tree_in_the_docstring_is_the_tree():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    drawn = set(re.findall(r"\w+Error", errors.__doc__.split("All but")[0]))
    assert drawn == classes - {"Refusal"}  # which has no place yet, and nobody sees
    assert all(issubclass(getattr(errors, name), PsuDeployError) for name in drawn)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(errors.InputError, ValueError), (errors.HorizonError, IndexError), (MissingExtraError, ImportError)],
)
def test_can_be_caught_as_what_python_would_raise(error, builtin):
    assert issubclass(error, builtin)


def test_the_words_of_the_command_line_cross_process_borders():
    error = pickle.loads(pickle.dumps(errors.InputError("pass x=1", shell="add --x 1")))
    assert (str(error), error.shell) == ("pass x=1", "add --x 1")
    assert errors.InputError("pass x=1").shell is None
    assert UnsupportedModelError(PROBLEMS, "export").shell is None


class TestUnsupportedModelError:
    def test_lists_everything(self):
        error = UnsupportedModelError(PROBLEMS, "export to onnx")
        first, head, *rows = str(error).splitlines()
        assert first == "cannot export to onnx: 2 problem(s)"
        assert head.split() == ["path", "type", "reason", "what", "to", "do"]
        assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
            [p.path, p.kind, p.reason, p.remedy] for p in PROBLEMS
        ]
        assert error.problems == tuple(PROBLEMS)

    def test_columns_are_aligned(self):
        _, head, *rows = str(UnsupportedModelError(PROBLEMS, "x")).splitlines()
        for problem, row in zip(PROBLEMS, rows, strict=True):
            assert row.index(problem.reason) == head.index("reason")
            assert row.index(problem.remedy) == head.index("what to do")

    def test_crosses_process_borders(self):
        error = UnsupportedModelError(PROBLEMS, "export to onnx")
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert again.problems == error.problems


class TestRequire:
    def test_installed(self):
        assert require("json", "onnx").dumps([1]) == "[1]"

    def test_missing(self):
        with pytest.raises(MissingExtraError) as caught:
            require("surely_not_installed", "onnx")
        assert str(caught.value) == (
            "'surely_not_installed' is not installed; it comes with the 'onnx' extra: pip install \"psu-deploy[onnx]\""
        )

    def test_missing_deeper(self, tmp_path, monkeypatch):
        """The module is there but one that it needs is not: that one is named."""
        (tmp_path / "needs_more.py").write_text("import surely_not_installed")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MissingExtraError, match="'surely_not_installed' is not installed"):
            require("needs_more", "onnx")

    def test_broken_is_not_missing(self, tmp_path, monkeypatch):
        (tmp_path / "broken_module.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ZeroDivisionError):
            require("broken_module", "onnx")
