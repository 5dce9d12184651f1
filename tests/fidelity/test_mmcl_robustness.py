"""Linear contrastive learning: the closed form, its loss, and what it learns of the two data models.

The conformance checks of arXiv 2310.04971 that need no trained network. Gradient descent on the loss is the
independent check of the closed form; populations are drawn as the datasets are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from winnow.data.readers import linear_pairs
from winnow.data.readers.linear_pairs import CAPTION, IMAGE, PROMPT, Options
from winnow.models.engine.logistic import fit_logistic
from winnow.plan.catalogue import DatasetEntry
from winnow.train.engine.linear import (
    class_means,
    contrastive_gradient,
    contrastive_loss,
    contrastive_minimiser,
    cross_covariance,
    least_squares,
)

Floats = npt.NDArray[np.float64]
Split = tuple[Floats, npt.NDArray[np.int64]]
RNG = np.random.default_rng(0)


def splits(n: int = 4000, **options: Any) -> dict[str, Split]:
    """Return vectors (n, 3, d) and labels of each split of a dataset with these options."""
    settings = Options.model_validate({"model": "intra_class", "dimensions": 12} | options)
    fields = {
        "name": "toy", "title": "Toy", "kind": "vectors", "licence": "MIT", "homepage": "https://example.org",
        "reader": "linear_pairs", "options": settings.model_dump(), "shape": (3, settings.dimensions, 1),
        "splits": {"train": n, "validation": n, "test": n}, "n_classes": settings.classes,
    }  # fmt: skip
    batches = linear_pairs.read(DatasetEntry.model_validate(fields), {})
    found = {}
    for batch in batches:
        assert batch.images is not None and batch.labels is not None
        found[batch.split] = batch.images[..., 0].astype(np.float64), batch.labels
    return found


def image_weights(train: Split, rank: int | None = None, rho: float = 1.0) -> Floats:
    """Return what a class's score weighs an image by, (d, classes), with label prompts."""
    vectors, labels = train
    covariance = cross_covariance(vectors[:, IMAGE], vectors[:, CAPTION])
    image, text = contrastive_minimiser(covariance, rank or min(covariance.shape), rho)
    centred = vectors[:, PROMPT] - vectors[:, CAPTION].mean(axis=0)
    return image.T @ text @ class_means(centred, labels, int(labels.max()) + 1).T


def error(train: Split, test: Split, weights: Floats) -> float:
    centred = test[0][:, IMAGE] - train[0][:, IMAGE].mean(axis=0)
    return float(((centred @ weights).argmax(axis=1) != test[1]).mean())


def supervised(train: Split) -> dict[str, Floats]:
    vectors, labels = train
    images, classes = vectors[:, IMAGE] - vectors[:, IMAGE].mean(axis=0), int(labels.max()) + 1
    return {
        "logistic": fit_logistic(images, labels, classes, 1e-4, 1000)[:-1],
        "min_norm": least_squares(images, labels, classes),
    }


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("rho", [0.5, 1.0, 4.0])
def test_the_closed_form_meets_the_first_order_condition(rank: int, rho: float) -> None:
    covariance = RNG.normal(size=(7, 5))
    image, text = contrastive_minimiser(covariance, rank, rho)
    left, values, right = np.linalg.svd(covariance)
    best = sum(values[k] * np.outer(left[:, k], right[k]) for k in range(rank))
    assert image.shape == (rank, 7) and text.shape == (rank, 5)
    assert rho * image.T @ text == pytest.approx(best, abs=1e-12)
    for gradient in contrastive_gradient(image, text, covariance, rho):
        assert gradient == pytest.approx(0, abs=1e-12)
    for _ in range(50):
        nudged = image + 0.1 * RNG.normal(size=image.shape), text + 0.1 * RNG.normal(size=text.shape)
        assert contrastive_loss(*nudged, covariance, rho) > contrastive_loss(image, text, covariance, rho)


def test_the_gradient_is_that_of_finite_differences() -> None:
    covariance, image, text = (RNG.normal(size=size) for size in ((4, 3), (2, 4), (2, 3)))
    found, step = contrastive_gradient(image, text, covariance, 1.7), 1e-6
    for which, gradient in enumerate(found):
        for place in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [image.copy(), text.copy()]
                moved[which][place] += sign * step
                ends.append(contrastive_loss(moved[0], moved[1], covariance, 1.7))
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_gradient_descent_from_a_small_random_start_reaches_the_same_product(rank: int) -> None:
    train = splits(n=500, richness=0.5, dimensions=6, noise=0.3)["train"][0]
    covariance, rho = cross_covariance(train[:, IMAGE], train[:, CAPTION]), 2.0
    image, text = (1e-2 * RNG.normal(size=(rank, 6)) for _ in range(2))
    for _ in range(200_000):
        of_image, of_text = contrastive_gradient(image, text, covariance, rho)
        if max(np.abs(of_image).max(), np.abs(of_text).max()) < 1e-9:
            break
        image, text = image - 0.2 * of_image, text - 0.2 * of_text
    exact = contrastive_minimiser(covariance, rank, rho)
    assert image.T @ text == pytest.approx(exact[0].T @ exact[1], abs=2e-5)


def test_the_loss_is_the_sum_over_pairs() -> None:
    """-Tr(W_I C W_T^T) is minus the mean similarity of pairs plus that of all pairings."""
    images, captions = RNG.normal(size=(9, 4)), RNG.normal(size=(9, 3))
    image, text = RNG.normal(size=(2, 4)), RNG.normal(size=(2, 3))
    similar = (images @ image.T) @ (captions @ text.T).T
    loss = contrastive_loss(image, text, cross_covariance(images, captions), 0.6)
    assert loss == pytest.approx(
        similar.mean() - np.diag(similar).mean() + 0.3 * np.sum((image.T @ text) ** 2)
    )


@pytest.mark.parametrize("model", ["intra_class", "inter_class"])
def test_doubling_rho_halves_the_product_and_changes_no_prediction(model: str) -> None:
    data = splits(model=model, richness=0.7)
    once, twice = (image_weights(data["train"], rho=rho) for rho in (1.0, 2.0))
    assert once == pytest.approx(2 * twice, rel=1e-9)
    images = data["test"][0][:, IMAGE]
    assert ((images @ once).argmax(axis=1) == (images @ twice).argmax(axis=1)).all()


def test_captions_that_name_the_class_alone_give_the_difference_of_the_class_means() -> None:
    train = splits(richness=0, noise=0, n=20_000)["train"]
    found = np.diff(image_weights(train), axis=1)[:, 0]
    difference = np.diff(class_means(train[0][:, IMAGE], train[1], 2), axis=0)[0]
    cosine = found @ difference / np.linalg.norm(found) / np.linalg.norm(difference)
    assert cosine == pytest.approx(1, abs=1e-6)


def test_weights_of_data_model_1_are_those_of_its_population() -> None:
    """Core 1 + pi sigma_core^2 to spurious 2 p - 1, for label prompts and full rank."""
    settings = {"richness": 0.6, "sigma_core": 1.2, "spurious": 0.8, "noise": 0.0}
    train = splits(n=400_000, model="intra_class", **settings)["train"]
    rng = np.random.default_rng([0, linear_pairs.zlib.crc32(b"dictionaries")])
    dictionary = np.linalg.qr(rng.standard_normal((12, 2)))[0]
    core, spurious = dictionary.T @ np.diff(image_weights(train), axis=1)[:, 0]
    assert spurious / core == pytest.approx(0.6 / (1 + 0.6 * 1.44), rel=0.02)


def test_weights_of_data_model_2_are_those_of_its_population() -> None:
    """A class weighs the next group's feature by (2p - 1) detail to 1 + pi (sigma^2 + (m - 1) detail^2)."""
    settings = {"richness": 0.5, "sigma_core": 0.3, "spurious": 0.9, "detail": 0.5, "groups": 4, "noise": 0.0}
    train = splits(n=400_000, model="inter_class", **settings)["train"]
    rng = np.random.default_rng([0, linear_pairs.zlib.crc32(b"dictionaries")])
    dictionary = np.linalg.qr(rng.standard_normal((12, 4)))[0]
    weights = dictionary.T @ image_weights(train)
    for label in range(8):
        own, following = weights[label // 2, label], weights[(label // 2 + 1) % 4, label]
        assert following / own == pytest.approx(0.8 * 0.5 / (1 + 0.5 * (0.09 + 3 * 0.25)), rel=0.03)


@pytest.mark.parametrize(
    ("model", "rank"), [("intra_class", None), ("intra_class", 1), ("intra_class", 2), ("inter_class", None)]
)
def test_error_out_of_distribution_does_not_increase_with_richness(model: str, rank: int | None) -> None:
    sigma = 1.0 if model == "intra_class" else 0.3
    errors = []
    for richness in (0, 0.25, 0.5, 0.75, 1):
        data = splits(model=model, richness=richness, sigma_core=sigma, n=20_000)
        errors.append(error(data["train"], data["test"], image_weights(data["train"], rank)))
    assert all(later <= earlier + 0.01 for earlier, later in pairwise(errors))
    assert errors[-1] < errors[0] - 0.05


@pytest.mark.parametrize("model", ["intra_class", "inter_class"])
def test_without_a_spurious_correlation_there_is_no_gap(model: str) -> None:
    data = splits(model=model, spurious=0.5, sigma_core=0.5, n=20_000)
    for weights in (image_weights(data["train"]), *supervised(data["train"]).values()):
        gap = error(data["train"], data["test"], weights) - error(data["train"], data["validation"], weights)
        assert abs(gap) < 4 * np.sqrt(0.5 / 20_000)  # four standard errors at most


def test_supervised_learning_takes_the_spurious_feature_of_data_model_1() -> None:
    """The comparison that the paper makes: worse than chance by interpolation, worse than rich captions."""
    data = splits(model="intra_class", n=20_000)
    found = {name: error(data["train"], data["test"], w) for name, w in supervised(data["train"]).items()}
    rich = error(data["train"], data["test"], image_weights(data["train"]))
    assert found["min_norm"] > 0.5
    assert rich < min(found.values()) - 0.1


def test_a_small_core_variance_turns_the_comparison_round() -> None:
    """Where the core feature is as clean as the spurious one, supervised learning is the robust one."""
    data = splits(model="intra_class", n=20_000, sigma_core=0.25)
    weights = supervised(data["train"])["logistic"]
    rich = error(data["train"], data["test"], image_weights(data["train"]))
    assert error(data["train"], data["test"], weights) < rich - 0.1


def test_least_squares_interpolates_where_there_are_more_dimensions() -> None:
    images, labels = RNG.normal(size=(10, 30)), np.arange(10) % 3
    weights = least_squares(images, labels, 3)
    targets = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    assert (images - images.mean(axis=0)) @ weights == pytest.approx(targets, abs=1e-10)
    pseudo = np.linalg.pinv(images - images.mean(axis=0)) @ targets
    assert weights == pytest.approx(pseudo, abs=1e-10)
