"""CAL: examples whose prediction differs most from those of their nearest neighbours.

Source: Margatina et al., EMNLP 2021. The score of x is the mean over its 10 nearest neighbours z in feature
space of KL(p_z || p_x), **highest** first. The paper's neighbours are the labelled examples of an active
learner; in a labelled pool all other examples are.

Released code (DeepCore 74ec709): symmetric KL, 0.5 KL(p_z || p_x) + 0.5 KL(p_x || p_z), **lowest** first.

Exact neighbours, O(n^2 d) by faiss in blocks; 16 n C bytes for the probabilities.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.centre import centred
from winnow.select.engine.choice import order_of_value
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset

SPARE = 32


class CALParams(Params):
    neighbours: int = Field(default=10, ge=1)
    divergence: Literal["neighbour_to_example", "example_to_neighbour", "symmetric"] = "neighbour_to_example"
    keep: Literal["high", "low"] = "high"
    quotas: Grouping = "none"


RELEASED = {"divergence": "symmetric", "keep": "low"}


def needs(_: CALParams) -> Signals:
    return {"features": {}, "logits": {}}


def nested(_: CALParams) -> bool:
    return True


@plugin(
    params=CALParams,
    variants={"paper": {}, "released": RELEASED},
    needs=needs,
    nested=nested,
    source="Margatina et al., EMNLP 2021, arXiv 2109.03764",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: CALParams) -> Subset:
    """Return the examples by their mean divergence to their neighbours.

    signals: `features` (n, d), where neighbours are found; `logits` (n, C), which are compared.
    """
    features, logits = finite(view, "features", "cal"), finite(view, "logits", "cal")
    place = order_of_value(features, logits)  # tells equally near ones apart
    nearest = neighbours_of(features[place], params.neighbours)
    values = np.empty(view.n)
    values[place] = mean_divergence(logits[place], nearest, params.divergence)
    score = Score(values, params.keep)
    classes = labelled(view, "cal") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)


def neighbours_of(features: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` nearest other rows of each row, (n, min(count, n - 1)), by Euclidean distance.

    faiss proposes `SPARE` candidates more than that from float32 inner products, differences in float64
    decide; ties go to the lowest position.
    """
    import faiss

    from winnow.select.engine.distances import squared_distances

    n, d = features.shape
    count = min(count, n - 1)
    rows = centred(features)
    index = faiss.IndexFlatL2(d)
    index.add(rows)
    _, found = index.search(rows, min(count + 1 + SPARE, n))
    found.sort(axis=1)
    distance = squared_distances(features, found)
    distance[found == np.arange(n)[:, None]] = np.inf
    best = np.argsort(distance, axis=1, kind="stable")[:, :count]
    nearest: np.ndarray = np.take_along_axis(found, best, axis=1)
    return nearest


def mean_divergence(logits: np.ndarray, nearest: np.ndarray, divergence: str) -> np.ndarray:
    """Return every row's mean divergence to its neighbours, (n,) float64; 0 without neighbours."""
    from scipy.special import log_softmax

    log_p = log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    total = np.zeros(len(p))
    for near in nearest.T:
        weight = {
            "neighbour_to_example": p[near],
            "example_to_neighbour": -p,
            "symmetric": 0.5 * (p[near] - p),
        }[divergence]
        total += (weight * (log_p[near] - log_p)).sum(axis=1)
    mean: np.ndarray = total / max(nearest.shape[1], 1)
    return mean
