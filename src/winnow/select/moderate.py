"""Moderate coreset (median score): the examples at the median distance from the centre of their class.

Source: Xia et al., ICLR 2023. With d_i the distance of example i's features to the mean of its class, the
score is |d_i - median of the class's d|, smallest first: neither the most typical examples, which say
little, nor the farthest, among which the wrong labels are. Every class gets its exact share;
`quotas: none` ranks the whole pool by the same score. O(n d).
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class ModerateParams(Params):
    quotas: Grouping = "labels"


def needs(_: ModerateParams) -> Signals:
    return {"features": {}}


def nested(_: ModerateParams) -> bool:
    return True


@plugin(
    params=ModerateParams,
    variants={"paper": {}},
    needs=needs,
    nested=nested,
    source="Xia et al., ICLR 2023 (Moderate Coreset)",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: ModerateParams) -> Subset:
    """Return the examples by the difference of their distance from the class's median distance.

    signals: `features` (n, d).
    """
    labels = labelled(view, "moderate")
    score = Score(median_score(finite(view, "features", "moderate"), labels), "low")
    return subset(ranked(score, labels if params.quotas == "labels" else None)[:budget], score)


def median_score(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return |d_i - median d| with d the distance to the class mean, (n,) float64."""
    score = np.empty(len(features))
    for group in groups_of(labels):
        rows = features[group]
        distance = np.linalg.norm(rows - rows.mean(axis=0, dtype=np.float64), axis=1)
        score[group] = np.abs(distance - np.median(distance))
    return score
