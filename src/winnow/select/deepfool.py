"""DeepFool: the examples nearest to the decision boundary, by the norm of the smallest perturbation found.

Source: Moosavi-Dezfooli et al., CVPR 2016; for selection, Ducoffe and Precioso 2018. Smallest norm first.

The released code (DeepCore 74ec709) ranks by the squared norm, which is the same order; its other defect
(it crashes on a CPU) is in the computation of the distances, which is the signal's matter. O(n log n).
"""

from __future__ import annotations

import numpy as np

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.grouped import Grouping
from winnow.select.engine.ranking import ranked
from winnow.select.engine.subset import Score, Subset, View, finite, labelled, subset


class DeepFoolParams(Params):
    quotas: Grouping = "none"


def needs(_: DeepFoolParams) -> Signals:
    return {"adversarial_distances": {}}


def nested(_: DeepFoolParams) -> bool:
    return True


@plugin(
    params=DeepFoolParams,
    variants={"paper": {}},
    needs=needs,
    nested=nested,
    source="Ducoffe and Precioso 2018, arXiv 1802.09841",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: DeepFoolParams) -> Subset:
    """Return the examples by their distance to the decision boundary, nearest first.

    signals: `adversarial_distances` (n,).
    """
    score = Score(finite(view, "adversarial_distances", "deepfool"), "low")
    classes = labelled(view, "deepfool") if params.quotas == "labels" else None
    return subset(ranked(score, classes)[:budget], score)
