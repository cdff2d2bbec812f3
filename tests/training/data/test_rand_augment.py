"""RandAugment against Pillow, which the published code calls, change by change."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from psu_deploy.training.data.rand_augment import CHANGES, rand_augmented

FILL = (12, 130, 240)


def image(seed: int, low: int = 0, high: int = 256, size: tuple[int, int] = (32, 30)) -> np.ndarray:
    """(H, W, 3), smooth here and noisy there."""
    numbers = np.random.default_rng(seed)
    noise = numbers.integers(low, high, (*size, 3))
    noise[: size[0] // 2] = numbers.integers(low, high, 3)
    return noise.astype(np.uint8)


def moved(picture: Image.Image, *matrix: float) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=FILL
    )


def solarize_add(picture: Image.Image, n: float) -> Image.Image:
    table = [min(255, i + int(n)) if i < 128 else i for i in range(256)]
    return picture.point(3 * table)


PILLOW = {
    "auto contrast": lambda p, n: ImageOps.autocontrast(p),
    "equalize": lambda p, n: ImageOps.equalize(p),
    "invert": lambda p, n: ImageOps.invert(p),
    "rotate": lambda p, n: p.rotate(n, resample=Image.Resampling.BILINEAR, fillcolor=FILL),
    "posterize": lambda p, n: ImageOps.posterize(p, int(n)) if n else Image.new("RGB", p.size),
    "solarize": lambda p, n: ImageOps.solarize(p, int(n)),
    "solarize add": solarize_add,
    "colour": lambda p, n: ImageEnhance.Color(p).enhance(n),
    "contrast": lambda p, n: ImageEnhance.Contrast(p).enhance(n),
    "brightness": lambda p, n: ImageEnhance.Brightness(p).enhance(n),
    "sharpness": lambda p, n: ImageEnhance.Sharpness(p).enhance(n),
    "shear x": lambda p, n: moved(p, 1, n, 0, 0, 1, 0),
    "shear y": lambda p, n: moved(p, 1, 0, 0, n, 1, 0),
    "translate x": lambda p, n: moved(p, 1, 0, n * p.size[0], 0, 1, 0),
    "translate y": lambda p, n: moved(p, 1, 0, 0, 0, 1, n * p.size[1]),
}

PUBLISHED = {
    "rotate": lambda level: level / 10 * 30,
    "posterize": lambda level: 4 - int(level / 10 * 4),
    "solarize": lambda level: 256 - int(level / 10 * 256),
    "solarize add": lambda level: min(128, int(level / 10 * 110)),
    **dict.fromkeys(("colour", "contrast", "brightness", "sharpness"), lambda level: 1 + level / 10 * 0.9),
    **dict.fromkeys(("shear x", "shear y"), lambda level: level / 10 * 0.3),
    **dict.fromkeys(("translate x", "translate y"), lambda level: level / 10 * 0.45),
}
"""timm's table of `inc1`, with the sign +."""

FACTORS = {"colour", "contrast", "brightness", "sharpness"}
ROUNDED = FACTORS | {"rotate", "shear x", "shear y", "translate x", "translate y"}
"""Pillow sums these in another order or in float32, then cuts the fraction off: a whole number may be one less."""


@pytest.mark.rows(15)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_pillow_s(name: str) -> None:
    pictures = [image(0), image(1, 40, 90), image(2, 7, 8), image(3, 0, 3), image(4, 200, 256)]
    batch = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).double()
    fill = torch.tensor(FILL).reshape(3, 1, 1).double()
    for strength in (0.0, 0.33, 0.9, 1.0):
        for sign in (1.0, -1.0):
            n = CHANGES[name].amount(torch.tensor(strength, dtype=torch.float64), torch.tensor(sign))
            found = CHANGES[name].apply(batch, n.expand(len(batch)).reshape(-1, 1, 1, 1), fill)
            for ours, picture in zip(found.movedim(1, -1).numpy(), pictures, strict=True):
                theirs = np.asarray(PILLOW[name](Image.fromarray(picture), float(n))).astype(float)
                off = np.abs(ours - theirs)
                assert off.max() <= (name in ROUNDED)
                assert (off > 0).mean() < 0.05


@pytest.mark.rows(15)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_strengths_are_those_of_the_published_table(name: str) -> None:
    for level in (0.0, 1.3, 8.6, 9.0, 9.7, 10.0):
        for sign in (1.0, -1.0):
            n = float(CHANGES[name].amount(torch.tensor(level / 10, dtype=torch.float64), torch.tensor(sign)))
            expected = PUBLISHED[name](level)
            if name in FACTORS:
                expected = max(0.1, 1 + sign * (expected - 1))
            elif name in ROUNDED:
                expected *= sign
            assert n == pytest.approx(expected)


def test_two_changes_half_the_time() -> None:
    """How often a sample is as it was: never chosen twice, 1/4, besides what changes nothing; and never less."""
    torch.manual_seed(0)
    batch = torch.from_numpy(np.stack([image(5)] * 2000)).movedim(-1, 1)
    changed = rand_augmented(batch, torch.zeros(3, 1, 1))
    same = float((changed == batch).flatten(1).all(1).double().mean())
    assert 0.25 < same < 0.40
    assert changed.dtype == torch.uint8
    assert torch.equal(rand_augmented(batch, torch.zeros(3, 1, 1), probability=0.0), batch)


def test_every_change_is_drawn_and_the_strength_is_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[torch.Tensor] = []
    signs: list[torch.Tensor] = []
    names = []
    for name, change in CHANGES.items():

        def amount(strength: torch.Tensor, sign: torch.Tensor, name: str = name, of=change.amount) -> torch.Tensor:
            strengths.append(strength)
            signs.append(sign)
            names.extend([name] * len(strength))
            return of(strength, sign)

        monkeypatch.setitem(CHANGES, name, type(change)(change.apply, amount))
    torch.manual_seed(0)
    rand_augmented(torch.zeros(3000, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 1, 1))
    counts = [names.count(name) for name in CHANGES]
    assert min(counts) > 140  # of 3000 samples twice, half of them, a fifteenth each: 200
    assert max(counts) < 260
    assert sorted(set(torch.cat(signs).tolist())) == [-1.0, 1.0]
    assert abs(float(torch.cat(signs).mean())) < 0.06  # of 3000: three deviations
    drawn = 10 * torch.cat(strengths)
    assert float(drawn.mean()) == pytest.approx(9.0, abs=0.05)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.05)
    assert float(drawn.max()) == 10.0


def test_the_same_seed_gives_the_same_batch() -> None:
    batch = torch.from_numpy(np.stack([image(k) for k in range(16)])).movedim(-1, 1)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(rand_augmented(batch, torch.zeros(3, 1, 1)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
