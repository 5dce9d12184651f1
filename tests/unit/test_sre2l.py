"""SRe2L: the loss against one written out, and what moves together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distill_views import CLASSES, MODEL, SIZE, M, distill, make_teacher, make_view, params_of
from torch import nn
from torch.nn import functional

from winnow import registry
from winnow.distill.engine.recovery import one_of_each, recovery_loss
from winnow.errors import UserError
from winnow.train.engine.classifier import assemble


def test_the_loss_is_that_of_all_batch_norms() -> None:
    teacher, images, labels = make_teacher(), torch.randn(3, 1, SIZE, SIZE), torch.arange(3)
    params, x, wanted = params_of("sre2l"), images, torch.zeros(())
    weight = params.first
    for layer in teacher.encoder:  # type: ignore[union-attr]
        if isinstance(layer, nn.BatchNorm2d):
            values = x.permute(1, 0, 2, 3).flatten(1)
            assert layer.running_mean is not None and layer.running_var is not None
            mean = (values.mean(1) - layer.running_mean).square().sum().sqrt()
            variance = (values.var(1, correction=0) - layer.running_var).square().sum().sqrt()
            wanted = wanted + weight * (mean + variance)
            weight = 1.0
        x = layer(x)
    wanted = functional.cross_entropy(teacher(images), labels) + params.statistics * wanted
    norms = [layer for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)]
    torch.testing.assert_close(recovery_loss(params, teacher, norms, images, labels), wanted)


def test_a_batch_is_one_image_of_each_class() -> None:
    members = [torch.tensor([0, 3]), torch.tensor([1]), torch.tensor([2, 4])]
    assert [rows.tolist() for rows in one_of_each(members)] == [[0, 1, 2], [3, 4]]


def test_batches_move_by_themselves_and_stay_within_black_and_white(tmp_path: Path) -> None:
    whole = distill("sre2l", tmp_path / "whole", shift=0, iterations=20).given.images
    view = make_view(tmp_path, "sre2l")
    low, high = view.bounds[:, 0]
    assert bool((whole >= low).all() and (whole <= high).all())
    firsts = torch.arange(0, M, M // CLASSES)
    part = view.__class__(**{**vars(view), "start": view.start[firsts]})
    params = params_of("sre2l").model_copy(update={"shift": 0, "iterations": 1})
    alone = registry.load("distill", "sre2l", "").function(params, part).snapshots
    noise = distill("sre2l", tmp_path / "noise", shift=0, iterations=1).snapshots
    assert alone.shape[1] == CLASSES and noise.shape[1] == M


def test_teachers_come_to_agree(tmp_path: Path) -> None:
    losses = distill("sre2l", tmp_path, iterations=60).history["loss"]
    assert losses.iloc[-5:].mean() < 0.6 * losses.iloc[:5].mean()


def test_crops_are_differentiable(tmp_path: Path) -> None:
    plain, cropped = (distill("sre2l", tmp_path / str(c), crop_min=c).given.images for c in (1.0, 0.3))
    assert not torch.equal(plain, cropped)


def test_a_teacher_without_batch_norm_is_told(tmp_path: Path) -> None:
    view = make_view(tmp_path, "sre2l")
    plain = assemble(MODEL, MODEL.params(depth=2, width=4), 1, SIZE, CLASSES).eval()
    with pytest.raises(UserError, match="no batch norm"):
        registry.load("distill", "sre2l", "").function(
            params_of("sre2l"), view.__class__(**{**vars(view), "teachers": (plain,)})
        )
