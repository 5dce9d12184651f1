"""CLIP score, C-RHO and DataComp's rules, and the facts of pairs that the rules look at."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from winnow.data.dataset import Dataset
from winnow.plan.suite import load_suite
from winnow.select import c_rho, clip_score, datacomp
from winnow.select.engine.subset import Subset, View
from winnow.signals import near_target, pair_facts
from winnow.signals.engine.view import Proxy, SignalView
from winnow.signals.near_target import _in_shared_clusters

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def view_of(**signals: np.ndarray) -> View:
    n = len(next(iter(signals.values())))
    return View(n, np.full(n, -1), signals)


def test_clip_score_ranks_by_the_inner_product_of_the_pair() -> None:
    images, texts = (RNG.normal(size=(50, 4)).astype(np.float32) for _ in range(2))
    view = view_of(embeddings=images, text_embeddings=texts)
    best = np.argsort(-(images * texts).sum(1))
    assert clip_score.select(view, 9, RNG, clip_score.ClipScoreParams()).index.tolist() == best[:9].tolist()
    worst = clip_score.select(view, 9, RNG, clip_score.ClipScoreParams(keep="low"))
    assert worst.index.tolist() == best[::-1][:9].tolist()


def test_c_rho_keeps_the_largest_reducible_similarity() -> None:
    values = RNG.normal(size=30)
    chosen = c_rho.select(view_of(reducible_similarity=values), 5, RNG, c_rho.CRhoParams())
    assert chosen.index.tolist() == np.argsort(-values)[:5].tolist()


def facts(**columns: float) -> np.ndarray:
    """One row of `pair_facts` that passes every rule, but for the given columns."""
    passing = {"words": 5, "characters": 20, "is_english": 1, "names_class": 1, "min_side": 300, "aspect": 1}
    return np.array([list({**passing, **columns}.values())], np.float32)


def choose(rows: np.ndarray, rules: tuple[str, ...], **more: Any) -> Subset:
    n = len(rows)
    signals = {"pair_facts": rows, "near_target": more.pop("near", np.ones(n, bool))}
    vectors = more.pop("vectors", np.ones((n, 2), np.float32))
    view = view_of(**signals, embeddings=vectors, text_embeddings=np.ones((n, 2), np.float32))
    params = datacomp.DataCompParams(rules=rules, **more)  # type: ignore[arg-type]
    return datacomp.select(view, None, np.random.default_rng(0), params)


@pytest.mark.parametrize(
    ("column", "fails", "passes"),
    [
        ("words", 2, 3),
        ("characters", 5, 6),
        ("min_side", 199, 200),
        ("aspect", 3.01, 3.0),
        ("is_english", 0, 1),
    ],
)
def test_basic_filter_at_its_borders(column: str, fails: float, passes: float) -> None:
    assert choose(facts(**{column: fails}), ("basic",)).facts["passed"] == 0
    assert choose(facts(**{column: passes}), ("basic",)).facts["passed"] == 1


def test_image_rule_wants_two_words_and_a_target_cluster() -> None:
    assert choose(facts(words=2), ("image",)).facts["passed"] == 1
    assert choose(facts(words=1), ("image",)).facts["passed"] == 0
    assert choose(facts(), ("image",), near=np.zeros(1, bool)).facts["passed"] == 0


def test_intersections_commute_and_the_score_orders_what_passes() -> None:
    n = 40
    rows = np.concatenate(
        [facts(words=int(w), names_class=int(c)) for w, c in RNG.integers(0, [6, 2], (n, 2))]
    )
    vectors = RNG.normal(size=(n, 2)).astype(np.float32)
    orders = [
        choose(rows, rules, vectors=vectors).index.tolist()
        for rules in (("basic", "text", "clip_score"), ("clip_score", "text", "basic"))
    ]
    assert orders[0] == orders[1]
    passing = (rows[:, 0] > 2) & (rows[:, 3] > 0)
    score = vectors.sum(1)
    assert orders[0] == sorted(range(n), key=lambda i: (not passing[i], -score[i]))


def test_language_can_be_left_out() -> None:
    assert choose(facts(is_english=0), ("text",)).facts["passed"] == 0
    assert choose(facts(is_english=0), ("text",), english=False).facts["passed"] == 1


def signal_view(
    captions: list[str], classes: tuple[str, ...], table: dict[str, Any] | None = None
) -> SignalView:
    data = SimpleNamespace(
        pool=("train",),
        shards={},
        shape=(48, 64, 3),
        classes=classes,
        pool_captions=lambda: [[text] for text in captions],
        table=lambda split: pd.DataFrame({"caption": captions} | (table or {})),
        n=lambda split: len(captions),
    )
    data.sizes = partial(Dataset.sizes, data)
    return SignalView(data, 0, 0)  # type: ignore[arg-type]


def test_pair_facts_count_words_and_know_the_classes() -> None:
    captions = ["Nike Women White T-Shirt", "two black flip-flops on the beach", "ein Hund am Strand", ""]
    view = signal_view(captions, ("Flip Flops", "Shirts"))
    found = pair_facts.compute(pair_facts.Params(), view)
    assert found[:, 0].tolist() == [4, 6, 4, 0]
    assert found[:, 1].tolist() == [len(text) for text in captions]
    assert found[1, 2] == 1 and found[2, 2] == 0
    assert found[:, 3].tolist() == [1, 1, 0, 0]
    assert (found[:, 4] == 48).all() and np.allclose(found[:, 5], 64 / 48)


def test_pair_facts_take_the_size_before_resizing() -> None:
    view = signal_view(["a b", "c d"], ("x",), {"width": [640, 100], "height": [480, 300]})
    found = pair_facts.compute(pair_facts.Params(), view)
    assert found[:, 4].tolist() == [480, 100] and np.allclose(found[:, 5], [640 / 480, 3])


@pytest.mark.parametrize(("scale", "relaxed"), [("small", True), ("paper", False)])
def test_the_suite_has_the_published_rules_at_the_scale_of_the_paper(scale: str, relaxed: bool) -> None:
    suite = load_suite(ROOT / "suites" / "filtering.yaml")
    for grid in suite.scales[scale].values():  # type: ignore[call-overload]
        rules = [arm for arm in suite.arms.values() if arm.method == "datacomp"]
        assert rules
        for arm in rules:
            params = datacomp.DataCompParams(**grid.methods.get("datacomp", {}), **arm.params)
            published = {"words": 2, "characters": 5, "min_side": 200, "aspect": 3.0, "english": True}
            ours = published | ({"min_side": 0, "english": False} if relaxed else {})
            assert params.model_dump(exclude={"rules"}) == ours


def test_sets_and_lists_of_names_give_the_same_filter() -> None:
    names, texts = [f"word{i} thing" for i in range(50)], [f"a word{i} here" for i in range(0, 100, 3)]
    as_set = pair_facts.class_words(names)
    as_list = [word for name in names for word in pair_facts.stems(name)]
    by_set = [bool(as_set & pair_facts.stems(text)) for text in texts]
    assert by_set == [any(word in as_list for word in pair_facts.stems(text)) for text in texts]


def test_only_clusters_with_a_target_image_count() -> None:
    centres = np.eye(4, dtype=np.float32)
    pool = np.repeat(centres, 25, axis=0) + 0.01 * RNG.normal(size=(100, 4)).astype(np.float32)
    found = _in_shared_clusters(pool, centres[[1, 3]], 4, seed=0)
    assert found.tolist() == [False] * 25 + [True] * 25 + [False] * 25 + [True] * 25


def test_the_target_is_other_data_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pool images are all dark or all light, and the target has light ones alone, of another size."""
    pool = np.repeat(np.array([10, 240], np.uint8), 20)[:, None, None, None] * np.ones(
        (40, 8, 8, 1), np.uint8
    )

    class Data:
        shape, mean, std = (8, 8, 1), (0.5,), (0.5,)

        def images(self, split: str) -> np.ndarray:
            return {"train": np.full((700, 4, 4, 1), 230, np.uint8), "validation": pool[:1]}[split]

    class Model:
        encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))

    with torch.no_grad():
        weight, bias = Model.encoder[1].weight, Model.encoder[1].bias
        weight[0], weight[1], bias[0], bias[1] = 1 / 64, -1 / 64, 1.0, 1.0
    data = Data()
    proxy = Proxy(Path(), 0, data, "cpu")  # type: ignore[arg-type]
    monkeypatch.setattr(Proxy, "load", lambda self: Model)
    embeddings = np.repeat(np.array([[0.1, 1.0], [1.0, 0.1]], np.float32), 20, axis=0)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    params = near_target.NearTargetParams(share=0.05)
    for target, near in ((data, [False] * 20 + [True] * 20), (None, [True] * 20 + [False] * 20)):
        view = SignalView(data, 0, 0, (proxy,), {"embeddings": unit}, target)  # type: ignore[arg-type]
        assert near_target.compute(params, view).tolist() == near
