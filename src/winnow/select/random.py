"""Uniform random subsets, plain or with the same share of every latent class.

`quota` isolates what balancing alone buys: it has the quotas of the methods that select within
latent classes, and nothing else of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.quotas import groups_of, interleave
from winnow.select.engine.subset import Subset, View, labelled, subset


class RandomParams(Params):
    quotas: Literal["none", "latent_classes", "labels"] = "none"


def needs(params: RandomParams) -> Signals:
    return {"latent_classes": {}} if params.quotas == "latent_classes" else {}


def nested(_: RandomParams) -> bool:
    return True


@plugin(
    params=RandomParams,
    variants={"plain": {}, "quota": {"quotas": "latent_classes"}, "stratified": {"quotas": "labels"}},
    needs=needs,
    nested=nested,
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: RandomParams) -> Subset:
    """Return a uniform random ordering cut at the budget; O(n log n)."""
    order = rng.permutation(view.n)
    if params.quotas != "none":
        classes = labelled(view, "random") if params.quotas == "labels" else view.signals["latent_classes"]
        order = interleave([order[group] for group in groups_of(np.asarray(classes)[order])])
    return subset(order[:budget])
