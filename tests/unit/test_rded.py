"""RDED: the crops that are kept are those that a teacher is surest of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distill_views import CLASSES, SIZE, M, distill, make_teacher, make_view, params_of
from torch.nn import functional

from winnow import registry
from winnow.distill.engine import crops
from winnow.errors import UserError
from winnow.train.engine.synthetic import packed, unpacked


def test_the_surest_crop_of_the_surest_images_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[torch.Tensor] = []
    own = crops.random_crops

    def watched(*arguments: Any) -> torch.Tensor:
        offered.append(own(*arguments))
        return offered[-1]

    monkeypatch.setattr(crops, "random_crops", watched)
    found, teacher = distill("rded", tmp_path).given, make_teacher()
    each = M // CLASSES
    for label, candidates in enumerate(offered):
        assert candidates.shape == (6, 2, 1, SIZE, SIZE)
        losses = [
            [
                float(functional.cross_entropy(teacher(crop[None]), torch.tensor([label])).detach())
                for crop in image
            ]
            for image in candidates
        ]
        best = sorted((min(own), place, own.index(min(own))) for place, own in enumerate(losses))[:each]
        wanted = torch.stack([candidates[place, crop] for _, place, crop in best])
        assert torch.equal(found.images[found.labels == label], wanted), "one crop of each image"


def test_small_crops_are_tiled_and_judged_amid_zeros(tmp_path: Path) -> None:
    found = distill("rded", tmp_path, factor=2, candidates=12).given
    assert found.images.shape == (M, 1, SIZE, SIZE) and found.factor == 1
    padded = torch.zeros(2, 1, SIZE, SIZE)
    small = torch.randn(2, 1, SIZE // 2, SIZE // 2)
    padded[:, :, 2:6, 2:6] = small
    teacher = make_teacher()
    wanted = functional.cross_entropy(teacher(padded), torch.ones(2, dtype=torch.int64), reduction="none")
    torch.testing.assert_close(crops.teacher_losses(teacher, small, 1, SIZE), wanted)


def test_packing_is_undone_by_unpacking() -> None:
    small = torch.arange(24.0).reshape(24, 1, 1, 1).expand(24, 1, SIZE, SIZE)
    assert torch.equal(unpacked(packed(small, 2, SIZE), 2), small)
    with pytest.raises(UserError, match="cannot hold 3 x 3"):
        packed(small, 3, SIZE)


def test_too_few_real_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 20 real images, 48 are needed"):
        distill("rded", tmp_path, factor=4)


def test_crops_differ_by_class_and_repetition_where_all_images_are_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    own = crops.random_crops

    def watched(images: torch.Tensor, params: Any, seed: int) -> torch.Tensor:
        seeds.append(seed)
        return own(images, params, seed)

    monkeypatch.setattr(crops, "random_crops", watched)
    for seed in range(3):
        view = make_view(tmp_path, "rded")
        params = params_of("rded").model_copy(update={"candidates": 300})
        registry.load("distill", "rded", "").function(params, view.__class__(**{**vars(view), "seed": seed}))
    assert len(set(seeds)) == 3 * CLASSES
