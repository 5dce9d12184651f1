"""Zero-shot accuracy, retrieval and shifts against plain loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from winnow.errors import UserError
from winnow.evaluate import zero_shot
from winnow.evaluate.engine.corruptions import corrupted
from winnow.evaluate.engine.view import EvaluationView
from winnow.train.engine.resize import resized

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_top_k_counts_the_k_highest_scores() -> None:
    scores, labels = RNG.normal(size=(80, 7)), RNG.integers(6, size=80)
    found = zero_shot.classification(scores, labels, (3,), "x")
    ranks = [int((scores[i] > scores[i, labels[i]]).sum()) for i in range(80)]
    assert found["x_accuracy"] == (np.mean([rank == 0 for rank in ranks]), 80)
    assert found["x_top3_accuracy"] == (np.mean([rank < 3 for rank in ranks]), 80)
    balanced = [np.mean([r == 0 for r, y in zip(ranks, labels, strict=True) if y == c]) for c in range(6)]
    assert found["x_balanced_accuracy"][0] == pytest.approx(np.mean(balanced))


def test_recall_counts_all_captions_of_an_image_and_equal_ones_of_others() -> None:
    captions = [[f"caption {i}.{j}" for j in range(1 + i % 3)] for i in range(40)]
    captions[7] = [*captions[7], captions[3][0]]
    owner = [i for i, own in enumerate(captions) for _ in own]
    flat = [text for own in captions for text in own]
    images, texts = unit(RNG.normal(size=(40, 5))), unit(RNG.normal(size=(len(flat), 5)))
    found = zero_shot.retrieval(images, texts, captions, (1, 5))
    assert owner[0] == 0
    right = np.array([[flat[j] in captions[i] for j in range(len(flat))] for i in range(40)])
    for name, scores, answers in (
        ("image_to_text", images @ texts.T, right),
        ("text_to_image", texts @ images.T, right.T),
    ):
        for k in (1, 5):
            hits = [answers[q][np.argsort(-scores[q])[:k]].any() for q in range(len(scores))]
            assert found[f"{name}_recall_at_{k}"] == (pytest.approx(np.mean(hits)), len(scores))


def test_a_model_that_says_the_same_of_everything_has_no_recall() -> None:
    same, distinct = np.ones((20, 3)), unit(RNG.normal(size=(20, 3)))
    one, own = [["a"]] * 20, [[str(i)] for i in range(20)]
    assert zero_shot.retrieval(same, same, one, (1,))["text_to_image_recall_at_1"][0] == 1.0  # all are right
    assert (
        zero_shot.retrieval(same, distinct, own, (1,))["text_to_image_recall_at_1"][0] == 0.0
    )  # ties count against


saved: dict[str, np.ndarray] = {}


def entry(*further: str, classes: int | None = None) -> Any:
    """What the catalogue says of a dataset."""
    return SimpleNamespace(splits=("train", *further), class_count=classes, kind="images")


def view_of(**data: Any) -> EvaluationView:
    """A view whose encoder takes the mean colour, and whose classes are the three channels."""

    def encode_images(images: np.ndarray) -> np.ndarray:
        return unit(np.asarray(images).reshape(len(images), -1, 3).mean(1) + 1e-3)

    return EvaluationView(
        data=SimpleNamespace(**data),  # type: ignore[arg-type]
        read=lambda _: pytest.fail("nothing to read"),  # type: ignore[arg-type,return-value]
        random=RNG,
        encode=lambda split: encode_images(data["images"](split)),
        encode_images=encode_images,
        encode_texts=lambda texts: unit(RNG.normal(size=(len(texts), 3))),
        encode_classes=lambda names, _: np.eye(3)[: len(names)],
        save=saved.__setitem__,
    )


def test_protocol_measures_splits_and_shifts() -> None:
    labels = {"test": RNG.integers(3, size=50), "validation": RNG.integers(3, size=30)}
    images = {split: np.zeros((len(y), 8, 8, 3), np.uint8) for split, y in labels.items()}
    for split, y in labels.items():
        images[split][np.arange(len(y)), :, :, y] = 200
    images["validation"][:10] = 0  # black: the first class
    view = view_of(
        name="x",
        splits=("train", "validation", "test"),
        classes=("r", "g", "b"),
        images=images.__getitem__,
        labels=labels.__getitem__,
        has_labels=lambda _: True,
        captions=lambda split: [["caption"]] * len(labels[split]),
    )
    params = zero_shot.ZeroShotParams(
        top=(2,), corruptions=("crop", "colour"), splits=("validation",), shifted=20
    )
    found = zero_shot.evaluate(params, view)
    assert set(found) == zero_shot.metrics(params, entry("test", classes=3), {})
    assert found["zero_shot_accuracy"] == (1.0, 50)
    assert (saved["confusion.npy"] == np.diag(np.bincount(labels["test"], minlength=3))).all()
    expected = np.mean(np.where(np.arange(30) < 10, 0, labels["validation"]) == labels["validation"])
    assert found["validation_zero_shot_accuracy"][0] == pytest.approx(expected)
    assert found["crop_5_accuracy"] == (1.0, 20)
    kinds = [found[f"{kind}_{s}_accuracy"][0] for kind in ("crop", "colour") for s in zero_shot.STRENGTHS]
    assert found["shifted_accuracy"] == (pytest.approx(np.mean(kinds)), 20)


def test_other_datasets_are_resized_and_named_by_their_own_classes() -> None:
    labels = np.arange(12) % 3
    large = np.zeros((12, 16, 16, 3), np.uint8)
    large[np.arange(12), :, :, labels] = 200
    large[9:] = 0  # black: the first class
    other = SimpleNamespace(
        kind="images", classes=("r", "g", "b"), images=lambda _: large, labels=lambda _: labels
    )
    view = view_of(
        name="x", splits=("train",), shape=(8, 8, 3), has_labels=lambda _: False, images=lambda _: large
    )
    params = zero_shot.ZeroShotParams(averages={"both": ("other", "other")})
    found = zero_shot.evaluate(params, replace(view, transfer={"other": other}))
    assert set(found) == zero_shot.metrics(params, entry(), {"other": entry("test", classes=3)})
    right = pytest.approx((9 + 1) / 12)
    assert found == {
        "other_zero_shot_accuracy": (right, 12),
        "both_zero_shot_accuracy": (right, 2),
        "transfer_zero_shot_accuracy": (right, 1),
        "zero_shot_accuracy": (right, 1),
    }
    with pytest.raises(UserError, match="transfer"):
        zero_shot.evaluate(zero_shot.ZeroShotParams(), view)


def test_photographs_without_labels_are_measured_by_retrieval() -> None:
    images = np.zeros((6, 8, 8, 3), np.uint8)
    images[np.arange(6), :, :, np.arange(6) % 3] = 200
    view = view_of(
        name="x",
        splits=("train", "test"),
        has_labels=lambda _: False,
        images=lambda _: images,
        captions=lambda _: [[f"{row} a", f"{row} b"] for row in range(6)],
    )
    seen: list[str] = []

    def texts(asked: list[str]) -> np.ndarray:
        seen.extend(asked)
        return np.eye(3)[[int(text[0]) % 3 for text in asked]]

    params = zero_shot.ZeroShotParams(recall=(3,), corruptions=("blur",))
    found = zero_shot.evaluate(params, replace(view, encode_texts=texts))
    assert set(found) == zero_shot.metrics(params, entry("test"), {})
    assert len(seen) == 12 and set(found) == {"image_to_text_recall_at_3", "text_to_image_recall_at_3"}
    # Another image has the same colour: of four equal texts two are right, and of two equal images one.
    assert found["image_to_text_recall_at_3"] == (1.0, 6) and found["text_to_image_recall_at_3"] == (1.0, 12)


def test_resizing_keeps_grey_grey() -> None:
    grey = RNG.integers(256, size=(2, 28, 28, 1), dtype=np.uint8)
    found = resized(grey, (64, 64, 3))
    assert found.shape == (2, 64, 64, 3) and np.ptp(found, axis=3).max() == 0
    assert (resized(grey, (28, 28, 1)) == grey).all()
    assert resized(found, (8, 8, 1)).shape == (2, 8, 8, 1)


KINDS = ("greyscale", "blur", "noise", "crop", "colour")


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_grow_with_their_strength_and_repeat(kind: Any) -> None:
    images = (np.kron(RNG.integers(2, size=(6, 8, 8, 3)), np.ones((1, 4, 4, 1))) * 255).astype(np.uint8)
    changed = [corrupted(images, kind, strength) for strength in (1, 2, 3, 4, 5)]
    assert all(c.shape == images.shape and c.dtype == np.uint8 for c in changed)
    distance = [np.abs(c.astype(int) - images).mean() for c in changed]
    assert distance[0] > 0 and distance[-1] == max(distance)
    assert (corrupted(images, kind, 3) == changed[2]).all()


def test_full_greyscale_leaves_no_colour_and_grey_images_refuse_it() -> None:
    images = RNG.integers(256, size=(3, 8, 8, 3), dtype=np.uint8)
    assert np.ptp(corrupted(images, "greyscale", 5).astype(int), axis=3).max() == 0
    with pytest.raises(UserError, match="colour images"):
        corrupted(images[..., :1], "colour", 1)
