"""Noise in captions: swapped, masked, and replaced by random words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_prepare import arrays, toy

from winnow.data.dataset import Dataset
from winnow.data.prepare import prepare
from winnow.data.recaption import recaptioned, swap, written
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, Recaption, load_catalogue

CATALOGUE = load_catalogue(Path(__file__).parents[2] / "datasets.yaml")
DISTINCT = [f"caption {k}" for k in range(200)]
EVEN = ["yes", "no"] * 50


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def captioned(recaption: dict[str, Any] | None) -> DatasetEntry:
    digits = CATALOGUE["digit_captions"].model_dump()
    return DatasetEntry.model_validate(digits | {"recaption": recaption})


def made(folder: Path, recaption: dict[str, Any] | None, **arguments: Any) -> Dataset:
    folder.mkdir()
    prepare(captioned(recaption), {}, folder, seed=3, **arguments)
    return Dataset.open(folder)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_swapping_moves_exactly_the_share_and_loses_no_caption(share: float) -> None:
    found, swapped = swap(DISTINCT, share, rng())
    assert sorted(found) == sorted(DISTINCT)
    assert swapped.sum() == round(share * 200)
    assert ([a != b for a, b in zip(found, DISTINCT, strict=True)] == swapped).all()


@pytest.mark.parametrize("seed", range(50))
def test_equal_texts_never_meet_even_when_half_are_equal(seed: int) -> None:
    found, swapped = swap(EVEN, 1.0, rng(seed))
    assert swapped.all() and all(a != b for a, b in zip(found, EVEN, strict=True))
    few, mask = swap(["a", "a", "b", "c"], 1.0, rng(seed))
    assert mask.all() and few[0] != "a" and few[1] != "a" and sorted(few) == ["a", "a", "b", "c"]


def test_what_cannot_be_helped_stays_and_is_not_called_swapped() -> None:
    found, swapped = swap(["a", "a", "a", "b"], 1.0, rng())
    assert sorted(found) == ["a", "a", "a", "b"]
    assert swapped.sum() == 2 and (swapped == [a != b for a, b in zip(found, "aaab", strict=True)]).all()
    assert not swap(["a"] * 5, 1.0, rng())[1].any()


@pytest.mark.parametrize("equal", [5, 3])
def test_several_captions_of_an_example_move_together(equal: int) -> None:
    several = [[f"text {row} of {number}" for number in range(5 if row % 2 else equal)] for row in range(40)]
    found, swapped = swap(several, 0.5, rng())
    assert swapped.sum() == 20 and sorted(found) == sorted(several)
    assert [new != old for new, old in zip(found, several, strict=True)] == swapped.tolist()


def test_each_of_several_captions_loses_its_words() -> None:
    several, single = [["a b c d e f g h"] * 3] * 20, ["a b c d e f g h"] * 60
    found, _ = recaptioned(several, Recaption(mask=0.5), rng())
    alone, _ = recaptioned(single, Recaption(mask=0.5), rng())
    assert [text for own in found for text in own] == alone
    assert {len(own) for own in found} == {3} and np.mean([len(text.split()) for text in alone]) == 4


def test_a_swapped_caption_comes_from_every_other_class() -> None:
    """With few texts the destination is near uniform over the others, not one class to one class."""
    captions = [str(k % 5) for k in range(5000)]
    found, _ = swap(captions, 1.0, rng())
    counts = pd.crosstab(np.array(captions), np.array(found)).to_numpy()
    assert (np.diag(counts) == 0).all()
    assert counts[~np.eye(5, dtype=bool)] == pytest.approx(250, abs=60)


LONG = ["one two three four five six seven eight"] * 300


@pytest.mark.parametrize("share", [0.25, 0.3, 0.8])
def test_masking_takes_out_the_share_on_average_and_keeps_the_order(share: float) -> None:
    found, swapped = recaptioned(LONG, Recaption(mask=share), rng())
    lengths = np.array([len(caption.split()) for caption in found])
    assert swapped is None
    assert 1 - lengths.mean() / 8 == pytest.approx(share, abs=0.02)
    assert set(lengths) <= {8 - int(np.floor(share * 8)), 8 - int(np.ceil(share * 8))}
    order = {word: place for place, word in enumerate(LONG[0].split())}
    assert all(sorted(c.split(), key=order.__getitem__) == c.split() for c in found)


def test_random_words_keep_lengths_and_change_the_words_that_masking_takes_out() -> None:
    captions = [f"w{5 * k} w{5 * k + 1} w{5 * k + 2} w{5 * k + 3} w{5 * k + 4}" for k in range(100)]
    masked, _ = recaptioned(captions, Recaption(mask=0.4), rng())
    replaced, _ = recaptioned(captions, Recaption(random_words=0.4), rng())
    vocabulary = {word for caption in captions for word in caption.split()}
    for original, thin, full in zip(captions, masked, replaced, strict=True):
        pairs = list(zip(original.split(), full.split(), strict=True))
        assert set(full.split()) <= vocabulary
        assert set(thin.split()) <= {old for old, new in pairs if old == new}


def test_no_caption_ends_empty() -> None:
    found, _ = recaptioned(["word", "two words"] * 50, Recaption(mask=0.95), rng())
    assert min(len(caption.split()) for caption in found) == 1


COLUMNS = {"caption": ["a shirt", "shoes"], "colour": ["Red", None], "season": [float("nan"), "Fall"]}


def test_a_template_is_filled_from_columns_and_missing_values_leave_no_gap() -> None:
    assert written("{caption} in {colour} {season}", COLUMNS, "toy") == ["a shirt in Red", "shoes in Fall"]
    assert written("{caption}, {caption}", {"caption": ["{colour}"]}, "toy") == ["{colour}, {colour}"]


@pytest.mark.parametrize(
    ("template", "columns", "message"),
    [
        ("{brand}", COLUMNS, "brand.*caption, colour, season"),
        ("{season}", COLUMNS, "toy, example 0: .*empty"),
        ("{price}", {"price": [3]}, "'price' is no text but 3"),
        ("{caption}", {"caption": [["one", "two"]]}, "is no text but"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(
    template: str, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        written(template, columns, "toy")


def test_training_captions_are_written_anew_with_the_name_of_the_class(tmp_path: Path) -> None:
    plain = made(tmp_path / "plain", None, holdout=100, limits={"train": 500})
    named = made(tmp_path / "named", {"template": "{stroke}, {label}"}, holdout=100, limits={"train": 500})
    before, after = plain.table("train"), named.table("train")
    names = [named.classes[label] for label in named.labels("train")]
    assert after["caption"].tolist() == [
        f"{stroke}, {name}" for stroke, name in zip(before["stroke"], names, strict=True)
    ]
    assert (plain.images("train") == named.images("train")).all()
    for split in ("validation", "test"):
        assert named.table(split).equals(plain.table(split))


def test_words_are_taken_out_of_what_the_template_wrote(tmp_path: Path) -> None:
    thin = made(tmp_path / "thin", {"template": "{label} {label} {label} {label}", "mask": 0.5})
    names = [thin.classes[label] for label in thin.labels("train")]
    assert thin.table("train")["caption"].tolist() == [f"{name} {name}" for name in names]


@pytest.mark.parametrize("name", ["products", "emoji"])
def test_levels_of_richness_differ_in_their_captions_alone(name: str) -> None:
    base = CATALOGUE[name]
    levels = [entry for other, entry in CATALOGUE.items() if other.startswith(f"{name}_") and entry.recaption]
    assert len(levels) >= 2
    for level in levels:
        same = ("reader", "options", "splits", "shape", "classes", "kind")
        assert all(getattr(level, key) == getattr(base, key) for key in same)
        assert level.sources() == base.sources()


def test_only_training_captions_change_and_all_else_stays(tmp_path: Path) -> None:
    clean = made(tmp_path / "clean", None, holdout=100, limits={"train": 500})
    noisy = made(tmp_path / "noisy", {"swap": 0.3}, holdout=100, limits={"train": 500})
    for split in ("validation", "test"):
        assert noisy.table(split).equals(clean.table(split))
        with pytest.raises(UserError, match="no swapped"):
            noisy.swapped(split)
    before, after = clean.table("train"), noisy.table("train")
    assert noisy.swapped("train").sum() == 150
    assert ((before["caption"] != after["caption"]).to_numpy() == noisy.swapped("train")).all()
    assert sorted(before["caption"]) == sorted(after["caption"])
    assert before.drop(columns="caption").equals(after.drop(columns="caption"))
    assert (clean.labels("train") == noisy.labels("train")).all() and clean.ids("train") == noisy.ids("train")


def test_the_seed_decides(tmp_path: Path) -> None:
    first, again = (made(tmp_path / name, {"swap": 0.2, "mask": 0.5}) for name in "ab")
    assert first.table("train").equals(again.table("train"))
    with pytest.raises(UserError, match="no swapped"):
        made(tmp_path / "c", {"random_words": 0.5}).swapped("train")


@pytest.mark.parametrize(
    "change", [{}, {"swap": 0}, {"mask": 1.0}, {"mask": 0.2, "random_words": 0.2}, {"template": "no column"}]
)
def test_wrong_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"swap|mask|template"):
        Recaption.model_validate(change)


def test_only_pairs_can_be_recaptioned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind 'images'"):
        toy(recaption={"swap": 0.1})
    np.savez(tmp_path / "t.npz", **arrays())
    with pytest.raises(UserError, match="needs a column 'caption'"):
        prepare(toy(kind="pairs", recaption={"swap": 0.1}), {"t.npz": tmp_path / "t.npz"}, tmp_path)


def test_entries_without_noise_keep_their_content() -> None:
    assert "recaption" not in captioned(None).content()
    assert captioned({"swap": 0.3}).content()["recaption"] == {
        "swap": 0.3,
        "mask": None,
        "random_words": None,
    }
    assert captioned({"template": "{label}"}).content()["recaption"]["template"] == "{label}"
