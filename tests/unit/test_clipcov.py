"""ClipCov against a naive reference: every score from its definition, every pick by a full search."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from winnow.select import clip_score, random
from winnow.select.clipcov import VARIANTS, ClipCovParams, select
from winnow.select.engine.cross_covariance import merge_by_value
from winnow.select.engine.subset import Subset, View


def make_view(n: int, classes: int, seed: int, d: int = 6, memory_gb: float = 2.0) -> View:
    rng = np.random.default_rng(seed)
    images = unit(rng.normal(size=(n, d)))
    texts = unit(images + 0.7 * rng.normal(size=(n, d)))
    signals = {
        "embeddings": images.astype(np.float32),
        "text_embeddings": texts.astype(np.float32),
        "latent_classes": rng.integers(classes, size=n),
        "label_similarity": rng.uniform(0, 0.5, n).astype(np.float32),
    }
    return View(n, np.full(n, -1), signals, memory_gb=memory_gb)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def run(view: View, budget: int | None = None, **params: Any) -> Subset:
    return select(view, budget, np.random.default_rng(0), ClipCovParams(**params))


class Reference:
    """The scores and the picks, one pair at a time, in float64."""

    def __init__(self, view: View, cut: bool = True) -> None:
        self.a, self.b = (view.signals[k].astype(float) for k in ("embeddings", "text_embeddings"))
        self.k, self.label = view.signals["latent_classes"], view.signals["label_similarity"].astype(float)
        self.similar = self.a @ self.b.T
        if cut:
            self.similar *= self.similar > 0
        self.classes = sorted(set(self.k))
        self.raw = np.array([self._raw(i) for i in range(view.n)])
        self.score = np.array([self._score(i) for i in range(view.n)])

    def members(self, i: int) -> np.ndarray:
        return np.flatnonzero(self.k == self.k[i])

    def _raw(self, i: int) -> float:
        own = self.members(i)
        return float(sum(self.similar[i, j] + self.similar[j, i] for j in own) / len(own))

    def _score(self, i: int) -> float:
        others = [np.flatnonzero(self.k == c) for c in self.classes if c != self.k[i]]
        near = [self.b[i] @ self.a[rows].mean(0) + self.a[i] @ self.b[rows].mean(0) for rows in others]
        centre = float(np.mean(near)) if near else 0.0
        return float(self.raw[i] + 2 * self.a[i] @ self.b[i] + self.label[i] / 2 - centre)

    def picks(self, count: int, period: int, over_all: bool) -> list[int]:
        q, order = self.score.copy(), list[int]()
        taken: dict[int, list[int]] = {c: [] for c in self.classes}
        new: dict[int, list[int]] = {c: [] for c in self.classes}
        for _ in range(count):
            j = int(q.argmax())
            c, own = int(self.k[j]), self.members(j)
            order.append(j)
            taken[c].append(j)
            new[c].append(j)
            q[j] = -np.inf
            if (len(taken[c]) + 1) % period == 0:
                for i in own:
                    q[i] -= sum(self.similar[i, p] + self.similar[p, i] for p in new[c]) / len(own)
                    q[i] -= sum(self.raw[p] for p in (taken[c] if over_all else new[c])) / len(own)
                    q[i] -= sum(self.label[p] / 2 for p in new[c]) / len(own)
                new[c] = []
        return order


@pytest.mark.parametrize("memory_gb", [2.0, 1e-9])  # the second holds no matrix of similarities
@pytest.mark.parametrize(("period", "over_all"), [(1, False), (1, True), (5, False), (5, True), (200, True)])
@pytest.mark.parametrize("seed", range(6))
def test_picks_are_those_of_the_definition(seed: int, period: int, over_all: bool, memory_gb: float) -> None:
    view = make_view(30 + 13 * seed, 1 + seed % 4, seed, memory_gb=memory_gb)
    found = run(view, period=period, over_all=over_all).index.tolist()
    assert found == Reference(view).picks(view.n, period, over_all)


def test_rows_that_are_not_at_hand_are_computed_again() -> None:
    """More picks than rows are held: the cache has to be filled several times."""
    view, large = make_view(900, 2, 3, memory_gb=1e-9), make_view(900, 2, 3)
    for period in (1, 7, 300):
        held = run(view, period=period, over_all=True).index
        assert held.tolist() == run(large, period=period, over_all=True).index.tolist()


def test_a_period_above_every_class_is_the_top_by_score() -> None:
    view = make_view(120, 4, 0)
    best = np.argsort(-Reference(view).score)[:40]
    assert run(view, 40, period=200, over_all=True).index.tolist() == best.tolist()
    top = run(view, 40, period=None)
    assert top.index.tolist() == best.tolist() and top.score is not None
    np.testing.assert_allclose(top.score.values, Reference(view).score, rtol=1e-5)


def test_all_and_new_agree_until_a_class_is_charged_twice() -> None:
    view = make_view(300, 3, 1)
    period = 10
    both = [run(view, period=period, over_all=over).index for over in (True, False)]
    classes = view.signals["latent_classes"]
    second = next(
        m for m in range(view.n) if np.bincount(classes[both[0][:m]], minlength=3).max() == 2 * period - 1
    )
    assert (both[0][:second] == both[1][:second]).all()
    assert (both[0] != both[1]).any()


def test_paper_and_released_differ_and_every_weight_matters() -> None:
    view = make_view(400, 2, 2)
    paper = run(view, 150).index
    released = run(view, 150, period=20, over_all=True).index
    assert set(paper) != set(released)
    for term in ("cross", "self_similarity", "label", "centre"):
        assert run(view, 150, **{term: 0.0}).index.tolist() != paper.tolist(), term
    assert run(view, 150, centres="own").index.tolist() != paper.tolist()
    assert run(view, 150, threshold=None).index.tolist() != paper.tolist()


def test_without_a_threshold_negative_similarities_count() -> None:
    view = make_view(60, 2, 5)
    found = run(view, period=1, threshold=None).index.tolist()
    assert found == Reference(view, cut=False).picks(view.n, 1, over_all=False)


@pytest.mark.parametrize("term", ["cross", "self_similarity", "label", "centre"])
def test_one_term_alone_ranks_by_its_formula(term: str) -> None:
    view = make_view(150, 4, 7)
    images, texts, latent = (
        np.asarray(view.signals[name], float) for name in ("embeddings", "text_embeddings", "latent_classes")
    )
    own = latent[:, None] == latent
    similar = np.maximum(images @ texts.T, 0)
    classes = np.unique(latent)
    image_means, text_means = (
        np.stack([rows[latent == k].mean(0) for k in classes]) for rows in (images, texts)
    )
    other = (classes != latent[:, None]) / (len(classes) - 1)
    worth = {
        "cross": ((similar + similar.T) * own).sum(1) / own.sum(1),
        "self_similarity": (images * texts).sum(1),
        "label": view.signals["label_similarity"].astype(float),
        "centre": -((texts @ image_means.T + images @ text_means.T) * other).sum(1),
    }[term]
    weights = {name: float(name == term) for name in ("cross", "self_similarity", "label", "centre")}
    variant = VARIANTS.get(f"top_{term}", {**weights, "period": None})  # of the score alone: clip_score
    chosen = run(view, 40, **variant)
    assert chosen.index.tolist() == np.argsort(-worth)[:40].tolist()
    assert chosen.score is not None
    np.testing.assert_allclose(chosen.score.values, worth, rtol=1e-4, atol=1e-6)


def test_the_best_by_the_score_alone_are_those_of_clip_score() -> None:
    view = make_view(150, 4, 7)
    alone = run(view, 40, period=None, cross=0.0, label=0.0, centre=0.0).index
    found = clip_score.select(view, 40, np.random.default_rng(0), clip_score.ClipScoreParams()).index
    assert alone.tolist() == found.tolist()


def test_random_in_quotas_has_the_classes_of_clipcov_at_every_size_and_other_members() -> None:
    view = make_view(400, 6, 11)
    latent = view.signals["latent_classes"]
    picked, drawn = run(view).index, run(view, members="random").index
    assert (latent[picked] == latent[drawn]).all(), "place by place, so every prefix has the same counts"
    counts = np.bincount(latent[drawn[:100]], minlength=6)
    assert counts.tolist() == np.bincount(latent[picked[:100]], minlength=6).tolist()
    proportional = random.select(
        view, 100, np.random.default_rng(0), random.RandomParams(quotas="latent_classes")
    ).index
    assert counts.tolist() != np.bincount(latent[proportional], minlength=6).tolist()
    assert sorted(drawn) == list(range(400))
    assert run(view, 100, members="random").index.tolist() == drawn[:100].tolist()


def test_random_in_quotas_draws_every_member_of_a_class_as_often() -> None:
    view = make_view(60, 3, 12)
    latent, params = view.signals["latent_classes"], ClipCovParams(members="random")
    times, draws = np.zeros(60), 400
    for seed in range(draws):
        chosen = select(view, 30, np.random.default_rng(seed), params)
        assert chosen.score is None
        times[chosen.index] += 1
    counts = np.bincount(latent[run(view, 30).index], minlength=3)
    expected = (counts / np.bincount(latent))[latent]
    assert np.abs(times / draws - expected).max() < 4 * 0.5 / np.sqrt(draws)


@pytest.mark.parametrize(
    "params", [{}, {"period": 5, "over_all": True}, {"period": None}, {"members": "random"}]
)
def test_the_facts_have_the_class_histogram(params: dict[str, Any]) -> None:
    view = make_view(200, 4, 13)
    latent = view.signals["latent_classes"]
    whole, part = run(view, **params), run(view, 40, **params)
    assert list(whole.facts["pairs_per_class"]) == ["10", "20", "40", "100", "200"]
    assert list(part.facts["pairs_per_class"]) == ["40"]
    expected = np.bincount(latent[part.index], minlength=4).tolist()
    assert whole.facts["pairs_per_class"]["40"] == part.facts["pairs_per_class"]["40"] == expected
    assert whole.facts["pairs_per_class"]["200"] == np.bincount(latent).tolist()


def test_of_many_classes_the_facts_have_quartiles() -> None:
    view = make_view(600, 1000, 14)
    sizes = np.bincount(view.signals["latent_classes"])
    found = run(view, 150).facts["pairs_per_class"]["150"]
    counts = np.bincount(view.signals["latent_classes"][run(view, 150).index], minlength=len(sizes))[
        sizes > 0
    ]
    assert found == {
        "quartiles": np.quantile(counts, (0, 0.25, 0.5, 0.75, 1)).tolist(),
        "empty": (counts == 0).sum(),
    }
    assert len(json.dumps(run(view).facts)) < 1000


def test_the_scaled_period_keeps_the_releases_charges_per_class() -> None:
    view = make_view(400, 2, 2)
    chosen = run(view, 100, period="scaled", over_all=True)
    assert chosen.facts["period"] == round(200 * 200 / 2838)
    assert chosen.index.tolist() == run(view, 100, period=14, over_all=True).index.tolist()


def test_half_precision_on_disk_is_read_class_by_class(tmp_path: Any) -> None:
    view = make_view(200, 5, 4)
    stored = dict(view.signals)
    for name in ("embeddings", "text_embeddings"):
        np.save(tmp_path / f"{name}.npy", view.signals[name].astype(np.float16))
        stored[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    whole = {name: np.asarray(values, np.float32) for name, values in stored.items() if "emb" in name}
    from_disk = run(View(200, view.labels, stored), 80).index
    in_memory = run(View(200, view.labels, {**stored, **whole}), 80).index
    assert from_disk.tolist() == in_memory.tolist()


def test_merging_waits_for_what_comes_before_in_a_class() -> None:
    orders = [np.array([0, 1, 2]), np.array([3, 4])]
    values = [np.array([5.0, 1.0, 9.0]), np.array([4.0, 2.0])]
    assert merge_by_value(orders, values).tolist() == [0, 3, 4, 1, 2]
