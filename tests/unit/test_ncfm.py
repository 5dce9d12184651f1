"""Characteristic functions: closed values, and a sampler that plays against the images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from distill_views import distill, make_view, params_of

from winnow import registry
from winnow.distill.engine.characteristic import Sampler, between, distance, drawn
from winnow.distill.engine.learned import PATIENCE, Plateau
from winnow.distill.engine.students import flat
from winnow.errors import UserError


def test_equal_distributions_are_at_no_distance() -> None:
    features, at = torch.randn(30, 5), torch.randn(64, 5)
    twice = torch.cat([features, features])
    assert distance(features, twice, at).item() == pytest.approx(0, abs=1e-4)


def test_the_distance_is_that_of_complex_numbers() -> None:
    """|F - G|^2 splits into amplitudes and phases; with both weighted by a half it is |F - G| / sqrt(2)."""
    random = np.random.default_rng(0)
    real, made, at = (random.normal(size=shape) for shape in ((20, 4), (7, 4), (50, 4)))
    first, second = (np.exp(1j * part @ at.T).mean(0) for part in (real, made))
    wanted = np.abs(first - second).mean() / math.sqrt(2)
    found = distance(*(torch.tensor(part) for part in (real, made, at)))
    assert found.item() == pytest.approx(wanted, rel=1e-9)


def test_points_have_a_closed_form() -> None:
    """Two points at a distance of pi along the only frequency: F = 1, G = -1."""
    found = distance(torch.zeros(1, 1), torch.full((1, 1), math.pi), torch.ones(1, 1))
    assert found.item() == pytest.approx(math.sqrt(2), rel=1e-5)


def test_frequencies_of_the_sampler_are_all_distinct_and_its_slope_goes_up() -> None:
    sampler = Sampler(6)
    at = drawn(sampler, 40, 6, torch.Generator().manual_seed(0))
    assert at.shape == (40, 6) and len(at.unique(dim=0)) == 40
    features, other = torch.randn(30, 6), torch.randn(30, 6) + 1
    before = distance(features, other, at)
    before.backward()
    with torch.no_grad():
        for parameter in sampler.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.05 * parameter.grad)  # what an optimiser that minimises does
    after = distance(features, other, drawn(sampler, 40, 6, torch.Generator().manual_seed(0)))
    assert after > before


def test_the_variants_differ_by_the_sampler(tmp_path: Path) -> None:
    paper, released = (distill("ncfm", tmp_path / v, v).given for v in ("paper", "released"))
    assert not torch.equal(paper.images, released.images)
    assert paper.factor == 2 and len(paper.shown().labels) == 4 * len(paper.labels)


def test_networks_lie_between_the_first_and_the_last_weights(tmp_path: Path) -> None:
    view = make_view(tmp_path, "ncfm", experts=1)
    network = view.network(0)
    between(view, network, torch.Generator().manual_seed(1))
    (first,), last, found = view.epochs_of(0, (0,)), view.last_of(0), flat(network.parameters())
    shares = (found - first) / (last - first)
    assert 0 < shares.median() < 1
    torch.testing.assert_close(found, first + shares.median() * (last - first), rtol=1e-3, atol=1e-4)


def test_images_that_cannot_be_divided_are_told(tmp_path: Path) -> None:
    view = make_view(tmp_path, "ncfm")
    with pytest.raises(UserError, match="cannot hold 3 x 3"):
        registry.load("distill", "ncfm", "").function(
            params_of("ncfm").model_copy(update={"factor": 3, "sampler": False}),
            view.__class__(**{**vars(view), "start": view.start[[0, 3, 6]]}),
        )


def test_pixels_stay_between_black_and_white(tmp_path: Path) -> None:
    found, view = distill("ncfm", tmp_path, lr_images=5.0), make_view(tmp_path, "ncfm")
    low, high = (bound[:, None, None] for bound in view.bounds)
    images = found.given.images
    assert bool((images >= low).all()) and bool((images <= high).all())
    assert bool((images == low).any()), "a rate as high as this one drives pixels to the ends"


def test_the_rate_is_halved_where_torch_would_halve_it() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=PATIENCE)
    schedule = Plateau(1.0, 6000, cosine=False)
    random = torch.Generator().manual_seed(0)
    rates = []
    for step in range(6000):
        loss = 1 + math.exp(-step / 400) + 0.01 * float(torch.randn((), generator=random))
        schedule.observe(loss)
        peer.step(loss)
        rates.append(schedule(step))
        assert rates[-1] == optimiser.param_groups[0]["lr"]
    assert 3 <= len(set(rates)) <= 12
