"""A machine gives back the module it was made of, or says why not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import ArtifactError
from psu_deploy.machine.storage import Attachment, load_attachment, save
from psu_deploy.training import Recipe
from psu_deploy.training.packing import Run, pack, unpack

RECIPE = Recipe(neuron="rpsu", hidden=4)


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Path, Run]:
    torch.manual_seed(0)
    model = RECIPE.build_network()
    model(torch.rand(8, 3, 8))  # BatchNorm has something to count
    model.eval()
    pack(to_state_machine(model, (8,)), Run(RECIPE, model), tmp_path / "model.psm")
    return tmp_path / "model.psm", Run(RECIPE, model)


def test_every_number_comes_back(packed: tuple[Path, Run]) -> None:
    """The whole ones, which the file keeps as floating point, too."""
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    found = unpack(packed[0])
    assert torch.equal(torch.rand(2), expected)  # nobody drew from the generator
    assert found.recipe == RECIPE
    assert not found.model.training
    ours, theirs = found.model.state_dict(), packed[1].model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        assert torch.equal(ours[name], value)
    assert any(value.dtype == torch.int64 and value == 1 for value in theirs.values())


def damaged(path: Path, text: str | None = None, **arrays: np.ndarray | None) -> Path:
    """The same machine with another attachment; None takes an array away."""
    attachment = load_attachment(path)
    assert attachment is not None
    kept = {name: value for name, value in (attachment.arrays | arrays).items() if value is not None}
    machine = to_state_machine(RECIPE.build_network().eval(), (8,))
    save(machine, path, Attachment(attachment.text if text is None else text, kept))
    return path


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("layers.0.weight", None, r"missing \['layers\.0\.weight'\], unknown \[\]"),
        ("layers.9.weight", np.zeros(3, np.float32), r"missing \[\], unknown \['layers\.9\.weight'\]"),
        ("layers.0.weight", np.zeros((2, 2), np.float32), r"of another shape or dtype \['layers\.0\.weight'\]"),
    ],
)
def test_weights_of_another_network(packed: tuple[Path, Run], name: str, array: np.ndarray, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=rf"model\.psm does not fit its recipe: .*{sentence}"):
        unpack(damaged(packed[0], **{name: array}))


@pytest.mark.parametrize("text", ["", "[]", "{}", RECIPE.to_json()[:-20], RECIPE.to_json().replace("rpsu", "gru")])
def test_a_recipe_that_is_none(packed: tuple[Path, Run], text: str) -> None:
    with pytest.raises(ArtifactError, match=r"the recipe in .*model\.psm "):
        unpack(damaged(packed[0], text))


def test_a_file_that_is_cut_short(packed: tuple[Path, Run]) -> None:
    content = packed[0].read_bytes()
    packed[0].write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"model\.psm"):
        unpack(packed[0])
