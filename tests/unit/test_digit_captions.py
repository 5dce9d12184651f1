"""Digits with captions: measures against loops, words, draws, colours."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from winnow.data.batch import Batch
from winnow.data.digits import load, measure
from winnow.data.readers import bundled, digit_captions
from winnow.data.readers.digit_captions import NAMES, PALETTE, WORDS, attribute_words, sentence
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry


def entry(reader: str = "digit_captions", channels: int = 1, **options: Any) -> DatasetEntry:
    fields = {
        "name": "toy", "title": "Toy", "kind": "pairs", "licence": "MIT", "homepage": "https://example.org",
        "reader": reader, "options": options, "splits": {"train": 1437, "test": 360},
        "shape": (8, 8, channels), "n_classes": 10,
    }  # fmt: skip
    return DatasetEntry.model_validate(fields)


def read(**options: Any) -> dict[str, Batch]:
    channels = 3 if options.get("colour") else 1
    return {batch.split: batch for batch in digit_captions.read(entry(channels=channels, **options), {})}


def tables(**options: Any) -> pd.DataFrame:
    """Return both splits' tables with labels, the training split first."""
    parts = read(**options)
    found = [parts[name].table.assign(label=parts[name].labels, split=name) for name in ("train", "test")]  # type: ignore[union-attr]
    return pd.concat(found, ignore_index=True)


def by_hand(image: np.ndarray[Any, Any]) -> dict[str, float]:
    """Measure one picture pixel by pixel."""
    x = [[value / 255 for value in row] for row in image.tolist()]
    height, width = len(x), len(x[0])
    cells = [(r, c) for r in range(height) for c in range(width)]

    def at(r: int, c: int) -> float:
        return x[r][c] if 0 <= r < height and 0 <= c < width else 0.0

    total = sum(at(*cell) for cell in cells)
    variation = sum(abs(at(r, c) - at(r - 1, c)) for r in range(height + 1) for c in range(width))
    variation += sum(abs(at(r, c) - at(r, c - 1)) for r in range(height) for c in range(width + 1))
    y0 = sum(r * at(r, c) for r, c in cells) / total
    x0 = sum(c * at(r, c) for r, c in cells) / total
    yy = sum((r - y0) ** 2 * at(r, c) for r, c in cells)
    xy = sum((r - y0) * (c - x0) * at(r, c) for r, c in cells)
    wide = sum(max(at(r, c) for r in range(height)) for c in range(width))
    high = sum(max(at(r, c) for c in range(width)) for r in range(height))
    return {
        "ink": total / (height * width),
        "stroke": 2 * total / variation,
        "slant": -xy / yy,
        "size": wide * high / (height * width),
    }


def test_measures_are_those_of_loops_over_pixels() -> None:
    images = load().images[::97]
    found = measure(images)
    for row, image in enumerate(images):
        assert {name: value[row] for name, value in found.items()} == pytest.approx(by_hand(image))


def test_measures_of_drawn_shapes() -> None:
    """A bar of width 2, the same bar leaning right, and nothing at all."""
    bar, leaning = (np.zeros((100, 120), dtype=np.uint8) for _ in range(2))
    bar[:, 50:52] = 255
    for row in range(100):
        leaning[row, 109 - row : 111 - row] = 255
    found = measure(np.stack([bar, leaning, np.zeros_like(bar)]))
    assert found["stroke"][0] == pytest.approx(2, rel=0.03)
    assert found["slant"] == pytest.approx([0, 1, 0])
    assert found["size"][:2] == pytest.approx([2 / 120, 101 / 120])
    assert found["ink"] == pytest.approx([2 / 120, 2 / 120, 0])
    assert found["stroke"][2] == 0


def test_images_labels_and_splits_are_those_of_the_digits() -> None:
    plain = bundled.read(entry("bundled", source="scikit-learn digits"), {})
    for batch in plain:
        same = read()[batch.split]
        assert (same.images == batch.images).all() and (same.labels == batch.labels).all()


def test_words_are_cut_at_quantiles_of_the_training_split_alone() -> None:
    digits = load()
    values = measure(digits.images)
    words = attribute_words(values, ~digits.is_test)
    other = {name: np.where(digits.is_test, 100.0, value) for name, value in values.items()}
    for name, changed in attribute_words(other, ~digits.is_test).items():
        assert (changed[~digits.is_test] == words[name][~digits.is_test]).all()
        assert (changed[digits.is_test] == WORDS[name][-1]).all()
        shares = pd.Series(words[name][~digits.is_test]).value_counts(normalize=True)
        assert shares.to_numpy() == pytest.approx(1 / len(WORDS[name]), abs=0.01)


def test_full_captions_name_digit_and_every_attribute() -> None:
    table = tables(richness="full")
    for row in table.itertuples():
        assert NAMES[row.label] in str(row.caption).split()
        for name in WORDS:
            assert getattr(row, name) in row.caption
    assert len({caption.split()[0] for caption in table["caption"]}) > 3


def test_label_and_attributes_say_one_thing_each() -> None:
    every = {word for words in WORDS.values() for word in words}
    label, attributes = tables(richness="label"), tables(richness="attributes")
    assert not any(word in caption for caption in label["caption"] for word in every)
    assert label["caption"].nunique() == 40  # four sentences for each of ten digits
    assert not any(name in caption.split() for caption in attributes["caption"] for name in NAMES)
    assert label["caption"].equals(tables(richness=0)["caption"])
    assert tables(richness="full")["caption"].equals(tables(richness=1)["caption"])


def test_mentions_have_their_probability_and_only_grow() -> None:
    found = [tables(richness=pi) for pi in (0.2, 0.5, 0.9)]
    said = [
        np.array([[w in caption for w in row] for caption, *row in t[["caption", *WORDS]].to_numpy()])
        for t in found
    ]
    for pi, mentions in zip((0.2, 0.5, 0.9), said, strict=True):
        assert mentions.mean(axis=0) == pytest.approx(pi, abs=0.04)
    assert all((low <= high).all() for low, high in pairwise(said))


def test_draws_depend_on_the_example_and_the_seed_alone() -> None:
    many, few = digit_captions._draws(3, 50), digit_captions._draws(3, 20)
    assert all((many[name][:20] == few[name]).all() for name in many)
    assert tables()["caption"].equals(tables()["caption"])
    assert not tables(seed=1)["caption"].equals(tables()["caption"])


@pytest.mark.parametrize(
    ("form", "digit", "words", "expected"),
    [
        (0, "three", ["small", "thin"], "a small thin digit three"),
        (0, "three", ["upright"], "an upright digit three"),
        (1, "eight", [], "a picture of an eight"),
        (1, "one", [], "a picture of a one"),
        (1, "", ["dark"], "a picture of a dark digit"),
        (2, "two", [], "the number two"),
        (2, "two", ["thin"], "the number two thin"),
        (3, "", [], "handwritten digit"),
    ],
)
def test_sentences(form: int, digit: str, words: list[str], expected: str) -> None:
    assert sentence(form, digit, words) == expected


@pytest.mark.parametrize(("test", "share"), [("reversed", 0.1), ("random", 0.5), ("same", 0.9)])
def test_two_colours_agree_as_stated(test: str, share: float) -> None:
    table = tables(colour={"spurious": 0.9, "colours": 2, "test": test})
    own = np.where(table["label"] < 5, "red", "blue")
    assert ((table["colour"] == own) == table["colour_agrees"]).all()
    agrees = table.groupby("split")["colour_agrees"].mean()
    assert agrees["train"] == pytest.approx(0.9, abs=0.025)
    assert agrees["test"] == pytest.approx(share, abs=0.06)
    assert all(c in text.split() for c, text in zip(table["colour"], table["caption"], strict=True))


def test_ten_colours_paint_the_grey_image_and_miss_evenly() -> None:
    options = {"spurious": 0.1, "test": "same", "mention": 0.25}
    painted, grey = read(colour=options)["train"], read()["train"]
    assert painted.images is not None and grey.images is not None and painted.table is not None
    full = np.array([PALETTE[name] for name in painted.table["colour"]])
    exact = grey.images[..., 0][..., None] / 255 * full[:, None, None]
    assert np.abs(painted.images - exact).max() <= 0.5
    counts = pd.crosstab(painted.labels, painted.table["colour"])
    assert counts.shape == (10, 10) and counts.to_numpy().min() > 3  # 14 expected in each
    named = [c in t.split() for c, t in zip(painted.table["colour"], painted.table["caption"], strict=True)]
    assert np.mean(named) == pytest.approx(0.25, abs=0.04)


def test_colour_changes_neither_words_nor_which_are_mentioned() -> None:
    plain, coloured = tables(richness=0.5), tables(richness=0.5, colour={"spurious": 0.9, "mention": 0})
    assert plain["caption"].equals(coloured["caption"])


@pytest.mark.parametrize(
    "options", [{"richness": "rich"}, {"richness": 1.5}, {"colour": {"spurious": 0.9, "colours": 3}}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"richness|colours"):
        digit_captions.Options.model_validate(options)


def test_attributes_alone_must_say_whether_the_colour_is_named() -> None:
    with pytest.raises(ValueError, match=r"colour\.mention"):
        digit_captions.Options.model_validate({"richness": "attributes", "colour": {"spurious": 0.9}})


def test_only_pairs_have_captions() -> None:
    with pytest.raises(UserError, match=r"toy\.kind: 'images'"):
        list(digit_captions.read(entry().model_copy(update={"kind": "images"}), {}))
