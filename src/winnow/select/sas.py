"""SAS: subsets that maximise augmentation similarity to the examples they leave out.

Paper (Joshi and Mirzasoleiman, ICML 2023): within each latent class
V_k maximise F(S) = sum of s_ij over i in V_k \\ S, j in S, by greedy followed by double greedy, with
the same fraction of every class. s_ij is the expected cosine of augmented views, cut at zero.

Released code (commit 5e57418): adding i zeroes row i of s, so that every gain stays the row sum. The
result is the top row sums of un-augmented embeddings, diagonal included, floor(f n_k) per class.

`lowest` is a negative control: the smallest row sums of the paper's similarities, with exact quotas.

Double greedy may drop examples whose removal raises F. The budget is then restored by greedy, and
the refined set is kept if its F is not below the plain greedy's: the budget is exact and the
refinement never hurts. Cost O(n_k^2 d + b_k n_k) per class, memory as in `Similarity`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.graph_cut import cut_value, double_greedy, greedy
from winnow.select.engine.quotas import groups_of, interleave, quotas
from winnow.select.engine.similarity import InnerProducts
from winnow.select.engine.subset import Score, Subset, View, finite, subset


class SASParams(Params):
    objective: Literal["graph_cut", "row_sum"] = "graph_cut"
    double_greedy: bool = True
    diagonal: bool = False
    threshold: float | None = 0.0
    quotas: Literal["exact", "floor"] = "exact"
    keep: Literal["high", "low"] = "high"
    augment_views: int = Field(default=8, ge=0)
    layer: Literal["projection", "backbone"] = "projection"

    @model_validator(mode="after")
    def _switches_have_an_effect(self) -> SASParams:
        if self.objective == "graph_cut" and (self.keep == "low" or self.diagonal):
            raise ValueError("keep: low and diagonal: true need objective: row_sum (a cut has neither)")
        if self.objective == "row_sum" and self.double_greedy:
            raise ValueError("double_greedy: true needs objective: graph_cut")
        return self


RELEASED = {
    "objective": "row_sum",
    "double_greedy": False,
    "diagonal": True,
    "quotas": "floor",
    "augment_views": 0,
}
LOWEST = {"objective": "row_sum", "double_greedy": False, "keep": "low"}


def needs(params: SASParams) -> Signals:
    views = {"augment_views": params.augment_views, "layer": params.layer}
    return {"embeddings": views, "latent_classes": {}}


def nested(params: SASParams) -> bool:
    return params.quotas == "exact" and not params.double_greedy


@plugin(
    params=SASParams,
    variants={"paper": {}, "released": RELEASED, "lowest": LOWEST},
    needs=needs,
    nested=nested,
    source="Joshi and Mirzasoleiman, ICML 2023, arXiv 2302.09195",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: SASParams) -> Subset:
    """Return the union of the classes' subsets.

    signals: `embeddings` (n, d) whose inner products are the similarities, `latent_classes` (n,).
    """
    embeddings = finite(view, "embeddings", "sas").astype(np.float32, copy=False)
    groups = groups_of(np.asarray(view.signals["latent_classes"]))
    counts = _counts([len(group) for group in groups], budget, view, params)
    row_sums, orders, facts = np.zeros(view.n), [], []
    for group, count in zip(groups, counts, strict=True):
        similarity = InnerProducts(embeddings[group], params.threshold, view.memory_gb)
        row_sums[group] = similarity.row_sums(params.diagonal)
        order, fact = _choose(similarity, row_sums[group], int(count), params)
        orders.append(group[order])
        facts.append({"size": len(group), "chosen": int(count), **fact})
    score = Score(row_sums, params.keep) if params.objective == "row_sum" else None
    if params.quotas == "floor":
        return subset(np.concatenate(orders), score, size=int(counts.sum()), facts={"classes": facts})
    return subset(interleave(orders, [len(group) for group in groups]), score, facts={"classes": facts})


def _counts(sizes: list[int], budget: int | None, view: View, params: SASParams) -> np.ndarray:
    if budget is None:
        return np.array(sizes)
    if params.quotas == "exact":
        return quotas(sizes, budget)
    fraction = budget / view.n if view.fraction is None else view.fraction
    return np.array([int(fraction * size) for size in sizes])


def _choose(
    similarity: InnerProducts, row_sums: np.ndarray, count: int, params: SASParams
) -> tuple[np.ndarray, dict[str, Any]]:
    if params.objective == "row_sum":
        order = Score(row_sums, params.keep).order()[:count]
        return order, {"objective": cut_value(similarity, order)}
    order, gains = greedy(similarity, count)
    value = float(gains.sum())
    if not params.double_greedy:
        return order, {"objective": value}
    kept = double_greedy(similarity, order)
    if len(kept) == count:
        return order, {"objective": value, "greedy_objective": value, "dropped": 0}
    refined, refined_gains = greedy(similarity, count, start=kept)
    better = float(refined_gains.sum()) >= value
    fact = {
        "greedy_objective": value,
        "dropped": count - len(kept),
        "objective": max(value, float(refined_gains.sum())),
    }
    return (refined if better else order), fact
