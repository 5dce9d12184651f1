"""Barlow Twins: its loss against a loop over the matrix, LARS against its formula, and training by both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_train_loop import CONVNET, WIDTH, interrupt, make_task
from torch import nn

from winnow import registry
from winnow.errors import UserError
from winnow.plan.specs import Plugged
from winnow.rehearse import training
from winnow.rehearse.cases import TrainCase
from winnow.rehearse.standin import Look
from winnow.store import building
from winnow.train.engine.augment import solarisation
from winnow.train.engine.contrastive import Contrastive, build_contrastive, load_contrastive, save_trained
from winnow.train.engine.lars import LARS
from winnow.train.engine.loop import Loop
from winnow.train.engine.losses import barlow_twins

BARLOW = registry.load("train", "barlow_twins", "test")
SMALL: dict[str, Any] = {"projector": (6, 6, 4), "precision": "fp32", "warmup": 1}


def reference(first: np.ndarray, second: np.ndarray, redundancy: float) -> float:
    """Equations 1 and 2 of the paper, entry by entry; the variances have batch norm's 1e-5."""
    n, d = first.shape
    loss = 0.0
    for i in range(d):
        for j in range(d):
            a, b = (list(view[:, k]) for view, k in ((first, i), (second, j)))
            mean_a, mean_b = sum(a) / n, sum(b) / n
            product = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
            spread_a = sum((x - mean_a) ** 2 for x in a) + 1e-5 * n
            spread_b = sum((y - mean_b) ** 2 for y in b) + 1e-5 * n
            entry = product / math.sqrt(spread_a * spread_b)
            loss += (1 - entry) ** 2 if i == j else redundancy * entry**2
    return loss


# -- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 5), (9, 4), (40, 7)])
@pytest.mark.parametrize("redundancy", [0.0, 0.005, 2.0])
def test_the_loss_is_the_paper_s_equation(n: int, d: int, redundancy: float) -> None:
    first, second = np.random.default_rng(n * d).normal(3, 2, size=(2, n, d))
    found = barlow_twins(torch.from_numpy(first), torch.from_numpy(second), redundancy)
    assert found.item() == pytest.approx(reference(first, second, redundancy), rel=1e-5, abs=1e-6)


def test_the_loss_has_the_gradient_of_the_equation() -> None:
    values, step = np.random.default_rng(3).normal(size=(2, 5, 3)), 1e-6
    tensor = torch.from_numpy(values).requires_grad_()
    barlow_twins(tensor[0], tensor[1], 0.5).backward()  # type: ignore[no-untyped-call]
    assert tensor.grad is not None
    for place in np.ndindex(values.shape):
        moved = np.stack([values, values])
        moved[(0, *place)] += step
        moved[(1, *place)] -= step
        high, low = (reference(*views, 0.5) for views in moved)
        assert tensor.grad[place].item() == pytest.approx((high - low) / (2 * step), rel=1e-3, abs=1e-5)


def decorrelated() -> torch.Tensor:
    """Return (8, 3) whose columns have mean 0 and are orthogonal."""
    signs = [[(-1) ** (row >> bit & 1) for bit in range(3)] for row in range(8)]
    return torch.tensor(signs, dtype=torch.float32)


def test_closed_values() -> None:
    views = decorrelated()
    assert barlow_twins(views, views, 0.005).item() == pytest.approx(0, abs=1e-8)
    assert barlow_twins(views, 7 * views + 2, 0.005).item() == pytest.approx(0, abs=1e-8), "scale and shift"
    assert barlow_twins(views, -views, 0.005).item() == pytest.approx(4 * 3, rel=1e-4)
    same = views[:, :1].expand(-1, 3)
    assert barlow_twins(same, same, 0.1).item() == pytest.approx(0.1 * 6, rel=1e-4), "every feature alike"
    assert barlow_twins(views, views[:, [1, 2, 0]], 0.1).item() == pytest.approx(3 + 0.1 * 3, rel=1e-4)
    collapsed = torch.ones(8, 3)
    assert barlow_twins(collapsed, collapsed, 0.1).item() == pytest.approx(3), "no correlation at all"


def test_the_loss_does_not_depend_on_the_order_of_examples_or_views() -> None:
    first, second = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    expected = barlow_twins(first, second, 0.3).item()
    assert barlow_twins(first[order], second[order], 0.3).item() == pytest.approx(expected, rel=1e-5)
    assert barlow_twins(second, first, 0.3).item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    first, second = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = barlow_twins(first, second, 0.3)
    assert found.dtype == torch.float32
    expected = reference(first.double().numpy(), second.double().numpy(), 0.3)
    assert found.item() == pytest.approx(expected, rel=1e-5)


# -- LARS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(("lr", "decay"), [(0.3, 1e-2), (0.01, 0.0), (3.0, 0.5)])
def test_lars_is_its_formula(clip: bool, lr: float, decay: float) -> None:
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(3, 4)), random.normal(size=4)
    slopes = [(random.normal(size=(3, 4)), random.normal(size=4)) for _ in range(4)]
    tensors = [nn.Parameter(torch.from_numpy(values.copy())) for values in (weight, bias)]
    optimiser = LARS(tensors, lr, momentum=0.9, weight_decay=decay, trust=0.02, clip=clip)
    speed, bias_speed = np.zeros((3, 4)), np.zeros(4)
    for slope, bias_slope in slopes:

        def closure(slope: np.ndarray = slope, bias_slope: np.ndarray = bias_slope) -> torch.Tensor:
            for tensor, values in zip(tensors, (slope, bias_slope), strict=True):
                tensor.grad = torch.from_numpy(values)
            return torch.tensor(5.0)

        assert optimiser.step(closure).item() == 5
        size = np.sqrt((weight**2).sum())
        rate = 0.02 * size / (np.sqrt((slope**2).sum()) + decay * size)
        rate = min(rate / lr, 1) if clip else rate
        speed = 0.9 * speed + rate * (slope + decay * weight)
        bias_speed = 0.9 * bias_speed + bias_slope
        weight, bias = weight - lr * speed, bias - lr * bias_speed
        np.testing.assert_allclose(tensors[0].detach().numpy(), weight, rtol=1e-12)
        np.testing.assert_allclose(tensors[1].detach().numpy(), bias, rtol=1e-12)


@pytest.mark.parametrize(("start", "slope"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_lars_leaves_numbers_finite_where_something_is_zero(start: float, slope: float) -> None:
    weight = nn.Parameter(torch.full((2, 2), start))
    optimiser = LARS([weight], 0.5)

    def closure() -> torch.Tensor:
        weight.grad = torch.full((2, 2), slope)
        return torch.zeros(())

    optimiser.step(closure)
    assert torch.allclose(weight, torch.full((2, 2), start - 0.5 * slope))


# -- training -----------------------------------------------------------------------------------


def train(folder: Path, task: dict[str, Any] | None = None, **params: Any) -> tuple[bytes, pd.DataFrame]:
    made = make_task(folder, **(task or {}))
    BARLOW.function(BARLOW.params(**(SMALL | params)), made)
    return (made.out / "model.safetensors").read_bytes(), pd.read_parquet(made.out / "history.parquet")


@pytest.mark.parametrize("optimiser", ["lars", "adam"])
def test_training_lowers_the_loss(tmp_path: Path, optimiser: str) -> None:
    """Images of one colour each, which no crop or flip changes."""
    colours = torch.randint(256, (60, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    task = {"images": colours.byte().expand(-1, -1, 8, 8), "epochs": 20, "batch_size": 25}
    lr, augment = 0.3 if optimiser == "lars" else 0.01, {"colour": 0, "greyscale": 0}
    _, history = train(tmp_path, task, optimiser=optimiser, lr=lr, augment=augment, solarise=0)
    assert history["loss"][-10:].mean() < 0.5 * history["loss"][0]
    assert history["learning_rate"][0] == pytest.approx(lr / 2), "one epoch of two steps to warm up in"
    assert history["learning_rate"].iloc[-1] < 0.1 * lr


@pytest.mark.parametrize("at", [1, 7])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(Loop, "_due", lambda self: True)
    whole, history = train(tmp_path / "whole")
    interrupt(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    again, resumed = train(tmp_path / "cut")
    assert again == whole
    pd.testing.assert_frame_equal(resumed, history, check_exact=True)


def test_weights_of_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no weights"):
        train(tmp_path, {"weights": torch.ones(50)})


@pytest.mark.parametrize(
    ("widths", "ends_normalised"), [((5,), False), ((None, 5), True), ((7, 6, 5), False)]
)
def test_every_projector_comes_back_as_it_was(
    tmp_path: Path, widths: tuple[int | None, ...], ends_normalised: bool
) -> None:
    model = build_contrastive(make_task(tmp_path), widths, ends_normalised)
    images = torch.rand(11, 3, 8, 8)
    model(images)
    final = tmp_path / "train" / "thing-00000000"
    with building(final, {"spec": "", "code": ""}) as artefact:
        assert artefact is not None
        save_trained(artefact.folder(4), model, torch.zeros(2, 2))
    found = load_contrastive(final, 4, CONVNET, WIDTH, 3, 8)
    assert isinstance(found, Contrastive)
    with torch.no_grad():
        assert torch.equal(found(images), model.eval()(images))


def test_solarisation_inverts_bright_pixels_in_a_share_of_the_images() -> None:
    images = torch.rand(400, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    found = solarisation(0.25)(images)
    inverted = torch.where(images >= 0.5, 1 - images, images)
    is_moved = (found != images).flatten(1).any(1)
    assert torch.allclose(found[is_moved], inverted[is_moved])
    assert 60 < int(is_moved.sum()) < 140


def test_a_rehearsal_measures_it(tmp_path: Path) -> None:
    params = BARLOW.params(**SMALL).model_dump(mode="json")
    case = TrainCase(
        Plugged(name="barlow_twins", params=params),
        Plugged(name="convnet", params=WIDTH.model_dump(mode="json")),
        epochs=1,
        batch_size=16,
        look=Look((8, 8, 3), 10),
    )
    found = training.measure_training(case, tmp_path, "cpu", 0.2, True)
    assert found.step.flops > 0 and found.step_s + found.row_s > 0
    assert found.state == pytest.approx(found.weights, rel=0.01), "one number of momentum for each weight"
