"""Protocols of supervised training and of noise: against scikit-learn, and on cases worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, log_loss, roc_auc_score

from winnow import registry
from winnow.errors import UserError
from winnow.evaluate.engine.view import EvaluationView
from winnow.evaluate.noise_detection import detection
from winnow.registry import Params

RNG = np.random.default_rng(0)


def measure(name: str, folder: Path, budget: int | None = None, **data: Any) -> dict[str, tuple[float, int]]:
    def draw(_: object) -> np.ndarray:
        return RNG.random(1)

    view = EvaluationView(SimpleNamespace(**data), folder.joinpath, RNG, draw, draw, draw, draw, draw, budget)  # type: ignore[arg-type]
    found: dict[str, tuple[float, int]] = registry.load("evaluate", name, "test").function(Params(), view)
    return found


def test_accuracy_and_loss_equal_scikit_learns(tmp_path: Path) -> None:
    labels = {"test": RNG.integers(4, size=50), "validation": RNG.integers(4, size=20)}
    logits = {split: RNG.normal(size=(len(y), 4)).astype(np.float32) * 3 for split, y in labels.items()}
    for split, values in logits.items():
        np.save(tmp_path / f"{split}_logits.npy", values)
    found = measure("accuracy", tmp_path, labels=labels.__getitem__, splits=("train", "test", "validation"))
    predicted = logits["test"].argmax(axis=1)
    shifted = np.exp(logits["test"].astype(float) - logits["test"].max(axis=1, keepdims=True))
    probability = shifted / shifted.sum(axis=1, keepdims=True)
    assert found["test_accuracy"] == (np.mean(predicted == labels["test"]), 50)
    assert found["balanced_accuracy"][0] == pytest.approx(balanced_accuracy_score(labels["test"], predicted))
    assert found["test_loss"][0] == pytest.approx(log_loss(labels["test"], probability), rel=1e-5)
    assert found["validation_accuracy"][1] == 20


def test_no_validation_split_no_validation_accuracy(tmp_path: Path) -> None:
    np.save(tmp_path / "test_logits.npy", np.eye(3))
    found = measure("accuracy", tmp_path, labels=lambda _: np.arange(3), splits=("train", "test"))
    assert "validation_accuracy" not in found and found["test_accuracy"] == (1.0, 3)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_detection_equals_scikit_learns_with_ties(decimals: int) -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        wrong = random.random(150) < 0.3
        suspicion = np.round(random.normal(size=150) + wrong, decimals)
        found = detection(suspicion, wrong)
        assert found["average_precision"] == pytest.approx(average_precision_score(wrong, suspicion))
        assert found["roc_auc"] == pytest.approx(roc_auc_score(wrong, suspicion))


def test_detection_by_hand() -> None:
    wrong = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0], bool)
    found = detection(np.arange(10, 0, -1.0), wrong)
    assert found["precision_at_true_count"] == found["recall_at_true_count"] == 0.5
    assert found["precision_at_recall_0.5"] == 1.0
    assert found["precision_at_recall_0.9"] == pytest.approx(2 / 3)
    perfect = detection(wrong.astype(float), wrong)
    assert set(perfect.values()) == {1.0}


def selection(folder: Path, index: np.ndarray, score: np.ndarray | None = None, keep: str = "high") -> None:
    pd.DataFrame({"index": index}).to_parquet(folder / "subset.parquet")
    facts = {} if score is None else {"keep": keep}
    (folder / "facts.json").write_text(json.dumps(facts))
    if score is not None:
        pd.DataFrame({"index": np.arange(len(score)), "score": score}).to_parquet(folder / "scores.parquet")


def noisy() -> dict[str, Any]:
    clean = np.zeros(6, int)
    given = np.array([1, 1, 0, 0, 0, 0])
    return {"kind": "images", "pool": ("train",), "labels": lambda _: given, "clean_labels": lambda _: clean}


def test_of_pairs_the_moved_captions_are_wrong(tmp_path: Path) -> None:
    selection(tmp_path, np.arange(2, 6), np.arange(6.0), "high")
    moved = np.array([True, True, False, False, False, False])
    pairs = measure("noise_detection", tmp_path, kind="pairs", pool=("train",), swapped=lambda _: moved)
    assert pairs == measure("noise_detection", tmp_path, **noisy())


@pytest.mark.parametrize(("keep", "sign"), [("high", 1), ("low", -1)])
def test_the_end_that_is_not_kept_is_suspicious(tmp_path: Path, keep: str, sign: int) -> None:
    selection(tmp_path, np.arange(2, 6), sign * np.arange(6.0), keep)
    found = measure("noise_detection", tmp_path, **noisy())
    assert found["noise_average_precision"][0] == 1.0
    assert found["noise_share"] == (pytest.approx(1 / 3), 6)
    assert found["noise_share_kept"] == (0.0, 4)


def test_an_order_ranks_where_there_is_no_score_and_a_subset_does_not(tmp_path: Path) -> None:
    selection(tmp_path, np.array([5, 4, 3, 2, 1, 0]))
    whole = measure("noise_detection", tmp_path, **noisy())
    assert whole["noise_average_precision"][0] == 1.0
    declared = registry.load("evaluate", "noise_detection", "test").metrics
    assert declared is not None and set(whole) == declared(Params(), cast(Any, None), {})
    selection(tmp_path, np.array([0, 5]))
    found = measure("noise_detection", tmp_path, **noisy())
    assert set(found) == {"noise_share", "noise_share_kept"} and found["noise_share_kept"][0] == 0.5


def test_a_full_ordering_is_cut_at_the_budget(tmp_path: Path) -> None:
    selection(tmp_path, np.array([5, 4, 3, 2, 1, 0]), np.arange(6.0))
    shares = {b: measure("noise_detection", tmp_path, b, **noisy())["noise_share_kept"] for b in (4, 5, 6)}
    assert shares == {4: (0.0, 4), 5: (0.2, 5), 6: (pytest.approx(1 / 3), 6)}


def test_other_pools_have_no_clean_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pool"):
        measure("noise_detection", tmp_path, **noisy() | {"pool": ("train", "unlabelled")})
