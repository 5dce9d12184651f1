"""Kernel ridge regression against its closed form, and the ages of the pool in both variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_views import distill, make_view, params_of
from torch.nn import functional

from winnow import registry
from winnow.distill.engine import kernel
from winnow.distill.engine.kernel import Pool, moved, ridge_regression
from winnow.distill.engine.learned import Distilled, LearnedSet
from winnow.errors import UserError


def test_it_is_ridge_regression_of_the_weights() -> None:
    """The dual form with a kernel equals the primal one: W = (X'X + l I)^-1 X'y."""
    random = np.random.default_rng(0)
    real, made, targets = (random.normal(size=shape) for shape in ((9, 4), (6, 4), (6, 3)))
    level = 0.1 * np.trace(made @ made.T)
    primal = np.linalg.solve(made.T @ made + level * np.eye(4), made.T @ targets)
    found = ridge_regression(*(torch.tensor(part) for part in (real, made, targets)), ridge=0.1)
    np.testing.assert_allclose(found.numpy(), real @ primal, rtol=1e-9)


def test_enough_points_of_a_linear_map_predict_it() -> None:
    weights, made, real = torch.randn(4, 3), torch.randn(20, 4), torch.randn(9, 4)
    found = ridge_regression(real, made, made @ weights, ridge=1e-9)
    torch.testing.assert_close(found.float(), real @ weights, rtol=1e-3, atol=1e-3)


def test_gradients_reach_images_and_targets(tmp_path: Path) -> None:
    view = make_view(tmp_path, "krr_st")
    given = distill("krr_st", tmp_path / "run").given
    assert given.targets is not None and view.real.targets is not None
    assert bool((given.targets != view.real.targets[view.start]).any(1).all())


@pytest.mark.parametrize(("variant", "low", "high"), [("paper", 0.0, 0.2), ("released", 0.8, 1.0)])
def test_networks_are_drawn_anew_when_they_are_old_and_not_at_every_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, low: float, high: float
) -> None:
    """With the published pool of ten the released counter renews 97 % of 160 times the limit's updates."""
    view = make_view(tmp_path, "krr_st")
    method = registry.load("distill", "krr_st", "")
    changes: dict[str, Any] = {**method.variants[variant], "pool": 10, "oldest": 10}
    params = method.params(**changes)
    pool, learned, renewed = Pool(params, view), LearnedSet.begin(view, "real"), 0

    def trained(self: Pool, place: int, _: LearnedSet) -> None:
        self.ages[place] += 1

    own = Pool._draw

    def counted(self: Pool, place: int, number: int) -> None:
        nonlocal renewed
        renewed += 1
        own(self, place, number)

    monkeypatch.setattr(kernel.Pool, "_train", trained)
    monkeypatch.setattr(kernel.Pool, "_draw", counted)
    pool.begin(learned)
    assert bool(((pool.ages >= 1) & (pool.ages < params.oldest)).all())
    renewed, updates = 0, 1600
    for step in range(updates):
        pool.update(pool.drawn(step), learned, step)
    assert low <= renewed / updates <= high
    if variant == "paper":
        assert renewed / updates == pytest.approx(1 / (params.oldest + 1), rel=0.2)
        assert int(pool.ages.max()) <= params.oldest


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_networks_train_as_by_torchs_optimiser(tmp_path: Path, norm: str) -> None:
    """Weights after a few steps, and features by the running statistics, beside a plain loop."""
    view = make_view(tmp_path, "krr_st", norm=norm)
    pool, learned = Pool(params_of("krr_st"), view), LearnedSet.begin(view, "real")
    pool._draw(1, 9)
    network = view.network(9).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        pool.update(1, learned, 0)
        optimiser.zero_grad()
        outputs = network(learned.images.detach())
        functional.mse_loss(outputs, learned.targets.detach()).backward()
        optimiser.step()
    with torch.no_grad():
        expected = network.eval().encoder(view.real.images)
        found = pool.network(1).encoder(view.real.images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        # Where the batch's statistics count, those are other features.
        moved = (network.train().encoder(view.real.images) - expected).abs().max()
    assert bool(moved > 1e-2) == (norm == "batch")
    assert pool.ages.tolist() == [0, 3]


def test_images_are_shifted_and_mirrored_one_by_one() -> None:
    """Every result is a window on its own image amid black, and all windows occur."""
    most, black = 1, torch.tensor([-1.0, -2.0])
    images = torch.arange(2 * 2 * 3 * 3).view(2, 2, 3, 3).float().repeat(300, 1, 1, 1)
    found = moved(images, most, True, black, torch.Generator().manual_seed(0))
    assert found.shape == images.shape
    again = moved(images, most, True, black, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    seen = set()
    for number, (image, shown) in enumerate(zip(images, found, strict=True)):
        behind = [functional.pad(image[c], [most] * 4, value=float(black[c])) for c in range(2)]
        windows = {
            (down, right, mirrored): torch.stack(
                [plane[down : down + 3, right : right + 3] for plane in behind]
            )
            for down in range(3)
            for right in range(3)
            for mirrored in (False, True)
        }
        matches = [
            key for key, window in windows.items() if torch.equal(window.flip(2) if key[2] else window, shown)
        ]
        assert matches, number
        seen.add((number % 2, *matches[0]))
    assert len(seen) == 2 * 9 * 2
    still = moved(images, most, False, black, torch.Generator().manual_seed(0))
    assert not torch.equal(still, found)
    assert torch.equal(moved(images, 0, False, black, torch.Generator()), images)


def test_the_teacher_says_what_is_predicted_of_images_as_they_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing moves that is the images' own target; where they do, another."""

    def made(folder: str, **changes: Any) -> torch.Tensor:
        (tmp_path / folder).mkdir()
        view = make_view(tmp_path / folder, "krr_st")
        targets = view.teacher()(view.real.images).detach()
        view = replace(view, real=replace(view.real, targets=targets))
        params = params_of("krr_st").model_copy(update=changes)
        found: Distilled = registry.load("distill", "krr_st", "").function(params, view)
        return found.given.images

    still = made("still", crop=0, flip=False)
    assert not torch.allclose(made("moved"), still, atol=1e-4)
    assert not torch.allclose(made("flipped", crop=0), still, atol=1e-4)
    monkeypatch.setattr(kernel, "moved", lambda images, *_: images)
    torch.testing.assert_close(made("stuck"), still, rtol=1e-4, atol=1e-5)


def test_it_needs_targets(tmp_path: Path) -> None:
    method = registry.load("distill", "krr_st", "").function
    with pytest.raises(UserError, match="needs `targets`"):
        method(params_of("krr_st"), make_view(tmp_path, "krr_st", regress=False))
