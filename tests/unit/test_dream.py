"""DREAM: real images that stand for clusters, small images in one, and the squared distance."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_views import CLASSES, SIZE, M, distill, make_view, params_of
from torch.nn.utils import parameters_to_vector

from winnow import registry
from winnow.distill.engine import gradients
from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.learned import LearnedSet
from winnow.distill.engine.nearest import Nearest, nearest_to_centres
from winnow.distill.engine.students import flat
from winnow.errors import UserError


def test_separated_clusters_give_one_image_each(tmp_path: Path) -> None:
    """Two kinds of images of a class, each with slight noise: one of each kind stands for it."""
    view = make_view(tmp_path, "dream")
    members, images = view.members()[0], view.real.images
    kinds = torch.arange(len(members)) % 2
    centres = 10 * torch.randn(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    images[members] = centres[kinds] + 0.01 * torch.randn(len(members), 1, SIZE, SIZE)
    found = nearest_to_centres(view, view.network(0), members, 2, seed=0)
    places = [members.tolist().index(row) for row in found.tolist()]
    assert sorted(kinds[places].tolist()) == [0, 1]


def test_real_images_are_those_nearest_to_centres_and_change_with_the_network(tmp_path: Path) -> None:
    view = make_view(tmp_path, "dream")
    nearest = Nearest(view, 5, torch.tensor([1, 0, 1]))
    looks = []
    for number in range(2):
        network = view.network(number)
        nearest.look(network, parameters_to_vector(network.parameters()).detach(), 0)
        looks.append(nearest.rows.clone())
        for label, own in enumerate(nearest.members()):
            assert len(own) == len(own.unique()) == (0 if label == 1 else 5)
            assert bool((view.real.labels[own] == label).all())
    assert not torch.equal(looks[0], looks[1])


def test_the_squared_distance_is_of_convolutions_alone() -> None:
    shapes = [torch.Size((4, 3, 3, 3)), torch.Size((4,)), torch.Size((5, 8))]
    first, second = (torch.randn(sum(shape.numel() for shape in shapes)) for _ in range(2))
    wanted = (first[:108] - second[:108]).square().sum()
    torch.testing.assert_close(gradients.squared_distance(first, second, shapes), wanted)


def test_small_images_take_part_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[int, int]] = []
    own = gradients.gradient_distance

    def counted(student: Any, weights: Any, shapes: Any, pairs: Any, measure: Any) -> torch.Tensor:
        counts.extend((len(pair[0]), len(pair[2])) for pair in pairs)
        return own(student, weights, shapes, pairs, measure)

    monkeypatch.setattr(gradients, "gradient_distance", counted)
    given = distill("dream", tmp_path).given
    assert set(counts) == {(8, 4 * M // CLASSES)}
    assert given.factor == 2 and given.shown().images.shape == (4 * M, 1, SIZE, SIZE)


def test_networks_train_on_real_images(tmp_path: Path) -> None:
    real, synthetic = (
        distill("dream", tmp_path / str(count), train_on=count).given.images for count in (20, None)
    )
    assert not torch.equal(real, synthetic)


def test_networks_train_as_torchs_sgd_does_and_go_on_with_their_velocity(tmp_path: Path) -> None:
    view = make_view(tmp_path, "dream")
    params = params_of("dream").model_copy(
        update={
            "train_on": 20,
            "epochs": 2,
            "batch_train": 10,
            "cutmix": 0.0,
            "augment": "",
            "lr_network": 0.1,
        }
    )
    learned, network = LearnedSet.begin(view, "real"), view.network(0)
    student, weights = student_of(network, "cross_entropy"), flat(network.parameters())
    velocity, other = torch.zeros_like(weights), copy.deepcopy(network)
    for step in range(2):
        gradients._train(params, view, learned, student, (weights, velocity), step)
    sgd = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(2):
        random = torch.Generator().manual_seed(view.derive("order", step))
        chosen = torch.randperm(len(view.real), generator=random)[:20]
        for _ in range(2):
            for rows in torch.randperm(20, generator=random).split(10):
                sgd.zero_grad()
                logits = other(view.real.images[chosen][rows])
                torch.nn.functional.cross_entropy(logits, view.real.labels[chosen][rows]).backward()
                sgd.step()
    torch.testing.assert_close(weights, flat(other.parameters()), rtol=1e-4, atol=1e-5)


def test_patches_of_others_are_in_place_of_empty_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies: set[str] = set()
    own = gradients.augment

    def watched(images: torch.Tensor, strategy: str, *given: Any, **more: Any) -> torch.Tensor:
        strategies.add(f"{strategy}, {'matched' if more.get('shared') else 'trained'}")
        return own(images, strategy, *given, **more)

    monkeypatch.setattr(gradients, "augment", watched)
    for share in (0.5, 0.0):
        distill("dream", tmp_path / str(share), augment="crop_cutout", cutmix=share, epochs=1, rounds=2)
    assert strategies == {"crop_cutout, matched", "crop, trained", "crop_cutout, trained"}


def test_half_of_the_batches_are_mixed_and_labels_follow_the_pixels() -> None:
    params = params_of("dream").model_copy(update={"cutmix": 0.5})
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 8, 8).contiguous()
    targets, random, mixed = torch.eye(6), torch.Generator().manual_seed(0), 0
    for _ in range(60):
        shown, shares = gradients._cut_and_mixed(params, images, targets, random)
        mixed += int(not torch.equal(shown, images))
        own = torch.stack([(shown == label).float().mean(dim=(1, 2, 3)) for label in range(6)], dim=1)
        torch.testing.assert_close(shares, own)
    assert 15 < mixed < 45
    again = [
        gradients._cut_and_mixed(params, images, targets, torch.Generator().manual_seed(5))[0]
        for _ in range(2)
    ]
    assert torch.equal(*again), "by the seed alone"


def test_too_few_real_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 20 real images, 48 are needed"):
        distill("dream", tmp_path, factor=4)


def test_what_nothing_can_be_learned_from_is_told(tmp_path: Path) -> None:
    view, method = make_view(tmp_path, "dream"), registry.load("distill", "dream", "")
    plain = registry.load("models", "mlp", "")
    flat = view.__class__(**{**vars(view), "model": plain, "model_params": plain.params(depth=1, width=4)})
    with pytest.raises(UserError, match="mlp has none"):
        method.function(params_of("dream"), flat)
    for changes in ({"factor": 3}, {"factor": 3, "init": "noise"}):
        with pytest.raises(UserError, match="test: images of 8 pixels cannot hold 3 x 3"):
            method.function(params_of("dream").model_copy(update=changes), view)
