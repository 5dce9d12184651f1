"""ClipCov: subsets of image-caption pairs whose cross-covariance is close to that of all pairs.

Paper (Joshi et al., AISTATS 2024): how CLIP generalises is governed by the image-text cross-covariance, so
a subset should keep it within each latent class and hold little between classes. With unit embeddings a_i,
b_i and S_ij = a_i . b_j where positive, a pair i of class k (n_k pairs) is worth

    q_i = sum_j (S_ij + S_ji) / n_k + 2 a_i . b_i + l_i / 2 - c_i

with l_i its similarity to the name of its class and c_i the similarity of image and caption to the centres
of the other classes. The best pair of all is picked; every other pair i of its class k then loses (S_ij +
S_ji) / n_k for the pick j, and the pick's own first and third term over n_k.

Released notebook (commit 25cc65f): the same terms, but a class is charged only at its 199th, 399th, ... pick
(`period` 200), and then for all its picks so far (`over_all`), those that were charged before included. A
class with fewer picks is never charged: at 5 % of CC3M that is most of them. Its input files are not
published and not documented; what they hold is inferred (docs/methods/clipcov.md).

`released_scaled` has as many charges per class as the release has on CC3M, where a class has 2,838 pairs:
its period is 200 n / (2,838 classes). `top` charges nothing: the best of q. The weights of the four terms
switch each of them off.

Memory O(n d) and one class's similarities, or a few rows of them above `memory_gb`. Cost O(sum n_k^2 d).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import order_of_value
from winnow.select.engine.cross_covariance import CrossSimilarity, Penalty, greedy_order, merge_by_value
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.subset import Score, Subset, View, finite, refuse_extremes, subset


class ClipCovParams(Params):
    """cross, self_similarity, label, centre: weights of the terms. threshold None keeps all similarities."""

    cross: float = Field(default=1.0, ge=0)
    self_similarity: float = Field(default=2.0, ge=0)
    label: float = Field(default=0.5, ge=0)
    centre: float = Field(default=1.0, ge=0)
    centres: Literal["other", "own"] = "other"
    threshold: float | None = 0.0
    period: Annotated[int, Field(ge=1)] | Literal["scaled"] | None = 1
    over_all: bool = False


CC3M_CLASS_SIZE = 2838
RELEASED = {"period": 200, "over_all": True}
SCALED = {"period": "scaled", "over_all": True}


def needs(_: ClipCovParams) -> Signals:
    return {
        "embeddings": {},
        "text_embeddings": {},
        "latent_classes": {"source": "zero_shot"},
        "label_similarity": {},
    }


def nested(_: ClipCovParams) -> bool:
    return True


@plugin(
    params=ClipCovParams,
    variants={"paper": {}, "released": RELEASED, "released_scaled": SCALED, "top": {"period": None}},
    needs=needs,
    nested=nested,
    source="Joshi et al., AISTATS 2024, arXiv 2403.12267",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: ClipCovParams) -> Subset:
    """Return the greedy order over all classes, cut at the budget.

    signals: `embeddings` of images and `text_embeddings` (n, d) of norm 1, float16 or float32, memory-mapped
    or not; `latent_classes` (n,); `label_similarity` (n,).
    """
    images, texts = view.signals["embeddings"], view.signals["text_embeddings"]
    labels = finite(view, "label_similarity", "clipcov").astype(np.float64)
    groups = groups_of(np.asarray(view.signals["latent_classes"]))
    centres = _centres(images, texts, groups)
    period = _scaled_period(view.n, len(groups)) if params.period == "scaled" else params.period
    penalty = Penalty(period, params.over_all, params.cross, params.label)
    gains, orders, values = np.zeros(view.n), [], []
    for place, group in enumerate(groups):
        similarity, members = _similarity(view, images, texts, group, params)
        closeness = _closeness(similarity, centres, place, params)
        gains[members] = _gains(similarity, labels[members], closeness, params)
        count = len(members) if budget is None else min(len(members), budget)
        order, value = greedy_order(similarity, gains[members], labels[members], penalty, count)
        orders.append(members[order])
        values.append(value)
    chosen = merge_by_value(orders, values)[:budget]
    largest = max(map(len, groups), default=0)
    score = Score(gains, "high") if period is None else None
    facts = {"classes": len(groups), "largest_class": largest, "period": period}
    return subset(chosen, score, facts=facts)


def _scaled_period(n: int, classes: int) -> int:
    return max(1, round(RELEASED["period"] * n / (CC3M_CLASS_SIZE * max(classes, 1))))


def _similarity(
    view: View, images: np.ndarray, texts: np.ndarray, group: np.ndarray, params: ClipCovParams
) -> tuple[CrossSimilarity, np.ndarray]:
    """Return one class's similarities, and its members in the order of their values, which breaks ties."""
    a, b = images[group].astype(np.float32), texts[group].astype(np.float32)
    refuse_extremes(a, "embeddings", "clipcov")
    refuse_extremes(b, "text_embeddings", "clipcov")
    order = order_of_value(a, b)
    return CrossSimilarity(a[order], b[order], params.threshold, view.memory_gb), group[order]


def _gains(
    similarity: CrossSimilarity, labels: np.ndarray, closeness: np.ndarray, params: ClipCovParams
) -> np.ndarray:
    """Return q of a class's members, (n_k,) float64."""
    score = np.einsum("nd,nd->n", similarity.images, similarity.texts, dtype=np.float64)
    covered = params.cross * similarity.sums / len(labels)
    worth = covered + params.self_similarity * score + params.label * labels - params.centre * closeness
    return np.asarray(worth)


def _centres(
    images: np.ndarray, texts: np.ndarray, groups: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes' mean images and mean texts, (classes, d) float64 each."""
    image_means = [images[group].mean(axis=0, dtype=np.float64) for group in groups]
    text_means = [texts[group].mean(axis=0, dtype=np.float64) for group in groups]
    return np.array(image_means), np.array(text_means)


def _closeness(
    similarity: CrossSimilarity,
    centres: tuple[np.ndarray, np.ndarray],
    place: int,
    params: ClipCovParams,
) -> np.ndarray:
    """Return caption to image centre plus image to caption centre: of the own class, or the others' mean."""
    others = len(centres[0]) - 1
    means = [each[place] for each in centres]
    if params.centres == "other":
        means = [(each.sum(axis=0) - each[place]) / max(others, 1) for each in centres]
    return np.asarray(similarity.texts @ means[0] + similarity.images @ means[1])
