"""USEFUL: show more often what the network does not learn early.

Paper (Nguyen et al., NeurIPS 2024): train for t epochs (the proxy's epochs here); within each class split the
network's outputs in two by k-means; the cluster of higher mean loss is slow to learn; train anew on the
data with `factor` - 1 extra copies of every slow example.

Controls: the slow examples are drawn at `random`, or are those of largest loss (`loss_quantile`), as many of
each class as k-means finds; or those that the proxy gets wrong (`misclassified`, as JTT does). `upweight`
weights an example's loss by the number of its copies instead. `balance` gives every class the extra
copies that its share of the data earns, so that the classes keep their proportions.

`factor: 1` is the plain pool. Facts: sizes, the slow share of each class, and the agreement (Jaccard) of the
slow set with one from another k-means seed. Cost O(restarts n d) and one sort of the outputs.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.resample import partition, resample, resample_balanced
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class UsefulParams(Params):
    """outputs, cluster_scale and kmeans_restarts are choices that the paper leaves open."""

    partition: Literal["kmeans", "random", "loss_quantile", "misclassified"] = "kmeans"
    outputs: Literal["logits", "features"] = "logits"
    cluster_scale: Literal["raw", "standardised"] = "raw"
    kmeans_restarts: int = Field(default=10, ge=1)
    factor: int = Field(default=2, ge=1)
    action: Literal["upsample", "upweight"] = "upsample"
    balance: bool = False


def needs(params: UsefulParams) -> Signals:
    clustered = params.partition != "misclassified"
    return {"logits": {}, "features": {}} if clustered and params.outputs == "features" else {"logits": {}}


@plugin(
    params=UsefulParams,
    variants={
        "paper": {},
        "random": {"partition": "random"},
        "loss_quantile": {"partition": "loss_quantile"},
        "misclassified": {"partition": "misclassified"},
        "upweight": {"action": "upweight"},
        "balanced": {"balance": True},
    },
    needs=needs,
    resamples=True,
    source="Nguyen et al., NeurIPS 2024, arXiv 2404.17768",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: UsefulParams) -> Subset:
    """Return the whole pool in its order, then the extra copies; or the pool with weights.

    signals: `logits` (n, C) after t epochs, and `features` (n, d) where they are clustered.
    """
    if budget is not None and budget < view.n:
        raise UserError("useful: repeats examples of the whole pool; its fraction must be 1")
    labels = labelled(view, "useful")
    slow, facts = _slow(view, labels, rng, params)
    if params.balance:
        index = resample_balanced(slow, params.factor, labels, rng)
    else:
        index = resample(slow, params.factor)
    facts |= {"slow": int(slow.sum()), "copies": len(index) - view.n, "slow_shares": _shares(slow, labels)}
    if params.action == "upweight":
        return subset(np.arange(view.n), weight=np.bincount(index), facts=facts)
    return subset(index, size=len(index), facts=facts)


def _slow(
    view: View, labels: np.ndarray, rng: np.random.Generator, params: UsefulParams
) -> tuple[np.ndarray, dict[str, Any]]:
    logits = finite(view, "logits", "useful")
    if params.partition == "misclassified":
        return logits.argmax(axis=1) != labels, {}
    losses = cross_entropy(logits, labels)
    outputs = logits if params.outputs == "logits" else finite(view, "features", "useful")
    standardised = params.cluster_scale == "standardised"
    slow, again = (
        partition(outputs, losses, labels, int(seed), params.kmeans_restarts, standardised)
        for seed in rng.integers(2**31, size=2)
    )
    facts = {"agreement": jaccard(slow, again)}
    if params.partition == "kmeans":
        return slow, facts
    score = Score(rng.random(view.n) if params.partition == "random" else losses, "high")
    return _highest(score, slow, labels), facts


def _highest(score: Score, like: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mask of the highest scores in each class, as many as `like` (n,) bool marks of it."""
    found = np.zeros(len(like), bool)
    order = score.order()
    for group in groups_of(labels[order]):
        members = order[group]
        found[members[: like[members].sum()]] = True
    return found


def _shares(slow: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {str(labels[group[0]]): float(slow[group].mean()) for group in groups_of(labels)}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the loss of every label in nats, (n,) float64."""
    from scipy.special import log_softmax

    losses: np.ndarray = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return losses


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return the size of the intersection over that of the union of two masks, 1 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
