"""What `--set` and `--task-file` make of their words."""

from __future__ import annotations

import sys

import pytest

from psu_deploy.cli.assignments import as_fields, import_tasks
from psu_deploy.errors import InputError
from psu_deploy.training import Task, registry
from psu_deploy.training.registry import make_task


def test_a_name_goes_where_it_belongs():
    words = ["epochs=3", "steps=6", "threshold=0.5", "neuron_options.bias=true", "options.normalise=imagenet"]
    assert as_fields(words, "cifar10", "rpsu") == {
        "epochs": 3,
        "options": {"steps": 6, "normalise": "imagenet"},
        "neuron_options": {"threshold": 0.5, "bias": True},
    }


def test_the_recipe_comes_first_then_the_task(monkeypatch):
    """Where several have an option of one name; the longer name says which."""

    def task(epochs: int = 1, tau: float = 2.0) -> Task:
        return make_task("digits", {})

    monkeypatch.setitem(registry._REGISTERED, "same-names", task)
    assert as_fields(["epochs=3", "tau=4"], "same-names", "psu") == {"epochs": 3, "options": {"tau": 4}}
    words = ["options.epochs=3", "neuron_options.tau=4"]
    assert as_fields(words, "same-names", "psu") == {"options": {"epochs": 3}, "neuron_options": {"tau": 4}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("-2", -2), ("true", True), ("null", None), ("a=b", "a=b"), ("", None), ("nan", "nan")],
)
def test_a_value_is_yaml(text, value):
    (found,) = as_fields([f"loss={text}"], "digits", None).values()
    assert type(found) is (float if text == "nan" else type(value))
    assert found == value or text == "nan"


def test_the_last_word_counts():
    assert as_fields(["tau=3", "tau=4"], "digits", "psu") == {"neuron_options": {"tau": 4}}


def test_a_network_with_neurons_of_its_own_takes_no_options_of_them():
    assert as_fields(["spiking=false"], "windowed-digits", None) == {"options": {"spiking": False}}
    with pytest.raises(InputError, match="no option of windowed-digits or own is called so"):
        as_fields(["tau=2"], "windowed-digits", None)


def test_what_is_offered_can_be_typed():
    with pytest.raises(InputError, match="there are ") as raised:
        as_fields(["velocity=1"], "cifar10", "rpsu")
    offered = str(raised.value).partition("there are ")[2].split(", ")
    assert offered == sorted(offered)
    assert {"epochs", "steps", "tau"} <= set(offered)
    assert not any("." in name for name in offered)
    for name in offered:
        as_fields([f"{name}=1"], "cifar10", "rpsu")


def test_what_is_no_value():
    with pytest.raises(InputError, match=r"--set hidden: '\[1' is no value: "):
        as_fields(["hidden=[1"], "digits", None)


class TestTaskFile:
    def test_it_is_run_and_can_be_imported_from(self, tmp_path):
        (tmp_path / "own_file.py").write_text(
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 3\n"
        )
        import_tasks(tmp_path / "own_file.py")
        assert sys.modules.pop("psu_deploy_tasks_own_file").A().x == 3

    def test_one_that_fails(self, tmp_path):
        (tmp_path / "bad.py").write_text("1 / 0")
        with pytest.raises(InputError, match=r"--task-file .*bad\.py fails: ZeroDivisionError: division by zero"):
            import_tasks(tmp_path / "bad.py")

    @pytest.mark.parametrize("name", ["folder.py", "words.txt", "nowhere.py"])
    def test_what_is_no_file_of_python(self, tmp_path, name):
        (tmp_path / "folder.py").mkdir()
        (tmp_path / "words.txt").write_text("1 / 0")
        with pytest.raises(InputError, match=rf"{name} is no Python file"):
            import_tasks(tmp_path / name)
