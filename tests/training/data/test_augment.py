import numpy as np
import pytest
import torch

from psu_deploy.training.data.augment import cropped, erased, flipped, rotated


def batch(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, shape, np.uint8))


@pytest.mark.parametrize("shape", [(150, 3, 8, 10), (150, 4, 2, 8, 8)])
def test_every_sample_is_moved_as_a_whole(shape: tuple[int, ...]) -> None:
    x = batch(*shape)
    found = set()
    for before, after in zip(x.numpy(), cropped(x, 2).numpy(), strict=True):
        padded = np.pad(before, [(0, 0)] * (before.ndim - 2) + [(2, 2)] * 2)
        height, width = shape[-2:]
        moves = [(r, c) for r in range(5) for c in range(5)]
        cuts = [np.array_equal(padded[..., r : r + height, c : c + width], after) for r, c in moves]
        assert sum(cuts) == 1
        found.add(moves[cuts.index(True)])
    assert [{move[axis] for move in found} for axis in (0, 1)] == [set(range(5))] * 2


def test_half_of_the_samples_are_flipped() -> None:
    x = batch(200, 3, 4, 5)
    y = flipped(x)
    turned = [bool((after == before.flip(-1)).all()) for before, after in zip(x, y, strict=True)]
    kept = [bool((after == before).all()) for before, after in zip(x, y, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 70 < sum(turned) < 130


def test_a_rotation_takes_the_nearest_pixel_of_the_turned_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    x = batch(2, 1, 9, 9).float()
    monkeypatch.setattr(torch, "rand", lambda size: torch.tensor([1.0, 0.0])[:size])
    angles = np.radians([15.0, -15.0])
    y = rotated(x, 15.0)
    for before, after, angle in zip(x[:, 0].numpy(), y[:, 0].numpy(), angles, strict=True):
        for row in range(9):
            for column in range(9):
                dx, dy = column - 4, row - 4
                sx = 4 + np.cos(angle) * dx - np.sin(angle) * dy
                sy = 4 + np.sin(angle) * dx + np.cos(angle) * dy
                nearest = round(float(sy)), round(float(sx))
                inside = all(0 <= at < 9 for at in nearest)
                assert after[row, column] == (before[nearest] if inside else 0.0)


def test_every_step_is_rotated_alike() -> None:
    frame = batch(5, 1, 2, 12, 12).float()
    turned = rotated(frame.expand(5, 3, 2, 12, 12))
    assert torch.equal(turned[:, 0], turned[:, 1])
    assert torch.equal(turned[:, 0], turned[:, 2])
    assert not torch.equal(turned[:, :1], frame)


def test_a_quarter_of_the_samples_loses_a_rectangle() -> None:
    x = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    y = erased(x, torch.full((3, 1, 1), 128.0), torch.full((3, 1, 1), 10.0))
    gone = (y != 0).all(1)
    erasures = gone.flatten(1).any(1)
    assert 70 < int(erasures.sum()) < 130
    for mask in gone[erasures]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert int(mask.sum()) == height * width  # a full rectangle
        assert height * width < 0.36 * 1024
    assert y.dtype == torch.uint8
    assert abs(float(y[y != 0].float().mean()) - 128) < 1


@pytest.mark.parametrize("change", [cropped, flipped, rotated, lambda x: erased(x, *(torch.ones(3, 1, 1),) * 2)])
def test_the_same_seed_gives_the_same_batch(change) -> None:
    x = batch(8, 3, 8, 8).float()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(change(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
