"""Differentiable augmentation: seeded, differentiable, shared where it must be, of the published strength."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from winnow.train.engine.dsa import TRANSFORMS, augment

ALL = "_".join(TRANSFORMS)


def images(count: int = 4) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 3, 16, 16, dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_seed_alone_decides(name: str) -> None:
    x = images()
    first = augment(x, name, seeded(1))
    assert first.shape == x.shape
    assert torch.equal(first, augment(x, name, seeded(1)))
    assert any(not torch.equal(first, augment(x, name, seeded(seed))) for seed in range(2, 8))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_real_and_synthetic_share_the_transform(name: str) -> None:
    """With `shared`, what happens to an image depends neither on its place nor on the size of the batch."""
    x = images()
    alone = [augment(x[i : i + 1], name, seeded(3), shared=True) for i in range(4)]
    assert torch.allclose(augment(x, name, seeded(3), shared=True), torch.cat(alone))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_images_of_a_batch_differ_in_evaluation(name: str) -> None:
    x = images(1).expand(16, -1, -1, -1)
    found = augment(x, name, seeded(0))
    assert len(torch.unique(found.flatten(1), dim=0)) > 1


@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradients_are_exact(name: str) -> None:
    x = images(2)[:, :, :6, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, name, seeded(5), shared=True), (x,))


def test_a_crop_is_a_shift_with_zeros_and_of_an_eighth() -> None:
    x, most = images(1), 0
    for seed in range(200):
        found = augment(x, "crop", seeded(seed))
        places = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if torch.equal(found, _shifted(x, down, right))
        ]
        assert len(places) == 1
        most = max(most, abs(places[0][0]), abs(places[0][1]))
    assert most == 2


def _shifted(x: Tensor, down: int, right: int) -> Tensor:
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3))
    return padded[:, :, 3 + down : 19 + down, 3 + right : 19 + right]


def test_a_cutout_is_a_square_of_half_the_size() -> None:
    x = torch.ones(64, 1, 16, 16)
    dark = 1 - augment(x, "cutout", seeded(0))
    rows, columns = dark.amax((1, 3)).sum(1), dark.amax((1, 2)).sum(1)
    assert torch.equal(dark.sum((1, 2, 3)), rows * columns), "rectangles"
    assert rows.max() == 8 and columns.max() == 8 and rows.min() >= 3


def test_strengths_of_colour_and_geometry() -> None:
    x = torch.zeros(500, 3, 8, 8)
    shift = augment(x, "color", seeded(0)).flatten(1)
    assert float(shift.abs().max()) <= 0.5 * 1.5 and float(shift.abs().max()) > 0.4
    flipped = augment(images(1).expand(400, -1, -1, -1), "flip", seeded(0))
    share = (flipped == images(1)).all((1), keepdim=False).flatten(1).all(1).float().mean()
    assert 0.4 < float(share) < 0.6


def test_one_transform_a_batch_and_none_without_a_strategy() -> None:
    x = images()
    assert augment(x, "", seeded(0)) is x
    found = {
        next(
            name
            for name in TRANSFORMS
            if torch.equal(augment(x, ALL, seeded(seed)), _after_draw(x, name, seed))
        )
        for seed in range(60)
    }
    assert found == set(TRANSFORMS)


def _after_draw(x: Tensor, name: str, seed: int) -> Tensor:
    """Apply a transform with the draws that follow the choice."""
    random = seeded(seed)
    torch.randint(len(TRANSFORMS), (1,), generator=random)

    def draw() -> Tensor:
        return torch.rand(4, generator=random).double()[:, None, None, None]

    for transform in TRANSFORMS[name]:
        x = transform(x, draw)
    return x
