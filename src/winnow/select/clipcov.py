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
switch each of them off: `top_cross`, `top_label` and `top_centre` are the best of one term alone (of the
second that is `clip_score`).

`random_in_quotas` is the control for what the class sizes do: in place of every pick of `paper`, a random
pair of the same class. Every prefix of its order has the classes of the same prefix of ClipCov's.

Memory O(n d) and one class's similarities, or a few rows of them above `memory_gb`. Cost O(sum n_k^2 d).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import order_of_value
from winnow.select.engine.cross_covariance import CrossSimilarity, Penalty, greedy_order, merge_by_value
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.subset import Score, Subset, View, finite, refuse_extremes, subset


class ClipCovParams(Params):
    """cross, self_similarity, label, centre: weights of the terms. threshold None keeps all similarities.

    members: of each class, what was picked, or as many pairs at random.
    """

    cross: float = Field(default=1.0, ge=0)
    self_similarity: float = Field(default=2.0, ge=0)
    label: float = Field(default=0.5, ge=0)
    centre: float = Field(default=1.0, ge=0)
    centres: Literal["other", "own"] = "other"
    threshold: float | None = 0.0
    period: Annotated[int, Field(ge=1)] | Literal["scaled"] | None = 1
    over_all: bool = False
    members: Literal["picked", "random"] = "picked"


CC3M_CLASS_SIZE = 2838
RELEASED = {"period": 200, "over_all": True}
SCALED = {"period": "scaled", "over_all": True}
NO_TERM = {"period": None, "cross": 0.0, "self_similarity": 0.0, "label": 0.0, "centre": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": RELEASED,
    "released_scaled": SCALED,
    "top": {"period": None},
    "top_cross": {**NO_TERM, "cross": 1.0},
    "top_label": {**NO_TERM, "label": 1.0},
    "top_centre": {**NO_TERM, "centre": 1.0},
    "random_in_quotas": {"members": "random"},
}

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Of the pool: a full ordering serves every budget, so its classes are counted at these."""

LISTED = 200
"""Classes up to which the count of every one is kept: facts stay small."""


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
    variants=VARIANTS,
    needs=needs,
    nested=nested,
    source="Joshi et al., AISTATS 2024, arXiv 2403.12267",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: ClipCovParams) -> Subset:
    """Return the greedy order over all classes, cut at the budget.

    signals: `embeddings` of images and `text_embeddings` (n, d) of norm 1, float16 or float32, memory-mapped
    or not; `latent_classes` (n,); `label_similarity` (n,). Facts: `pairs_per_class` has the histogram of the
    subset, of a full ordering those of its prefixes at `SHARES`, by the number of pairs.
    """
    images, texts = view.signals["embeddings"], view.signals["text_embeddings"]
    labels = finite(view, "label_similarity", "clipcov").astype(np.float64)
    latent = np.asarray(view.signals["latent_classes"])
    groups = groups_of(latent)
    centres = _centres(images, texts, groups)
    period = _scaled_period(view.n, len(groups)) if params.period == "scaled" else params.period
    penalty = Penalty(period, params.over_all, params.cross, params.label)
    gains, orders, values = np.zeros(view.n), [], []
    for place, group in enumerate(groups):
        similarity, members = _similarity(view, images, texts, group, params)
        closeness = (
            _closeness(similarity, centres, place, params) if params.centre else np.zeros(len(members))
        )
        gains[members] = _gains(similarity, labels[members], closeness, params)
        count = len(members) if budget is None else min(len(members), budget)
        order, value = greedy_order(similarity, gains[members], labels[members], penalty, count)
        orders.append(members[order])
        values.append(value)
    chosen = merge_by_value(orders, values)[:budget]
    score = Score(gains, "high") if period is None else None
    if params.members == "random":
        chosen, score = _others_of_the_classes(chosen, latent, rng), None
    largest = max(map(len, groups), default=0)
    facts = {"classes": len(groups), "largest_class": largest, "period": period}
    return subset(chosen, score, facts={**facts, "pairs_per_class": _histograms(latent, chosen, budget)})


def _others_of_the_classes(chosen: np.ndarray, latent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random pairs, (m,): in each place one of the class that is chosen there, none twice.

    The draw does not depend on m, so that prefixes stay prefixes.
    """
    shuffled, drawn = rng.permutation(len(latent)), np.empty_like(chosen)
    members = {int(latent[shuffled[own[0]]]): shuffled[own] for own in groups_of(latent[shuffled])}
    for places in groups_of(latent[chosen]):
        drawn[places] = members[int(latent[chosen[places[0]]])][: len(places)]
    return drawn


def _histograms(latent: np.ndarray, chosen: np.ndarray, budget: int | None) -> dict[str, Any]:
    """Return the pairs of each class among the first so many chosen, by that number: all of the subset, or
    of a full ordering several. With more than `LISTED` classes there are quartiles over those that occur.
    """
    n = len(latent)
    sizes = [len(chosen)] if budget is not None else [*(int(share * n + 0.5) for share in SHARES), n]
    pool = np.bincount(latent) if n else np.zeros(0, np.int64)
    found: dict[str, Any] = {}
    for size in sizes:
        counts = np.bincount(latent[chosen[:size]], minlength=len(pool))
        found[str(size)] = counts.tolist() if len(pool) <= LISTED else _quartiles(counts[pool > 0])
    return found


def _quartiles(counts: np.ndarray) -> dict[str, Any]:
    return {
        "quartiles": np.quantile(counts, (0, 0.25, 0.5, 0.75, 1)).tolist(),
        "empty": int((counts == 0).sum()),
    }


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
