"""CRAIG: weighted medoids of the gradients, so that few steps follow the full gradient.

Paper (Mirzasoleiman, Bilmes and Leskovec, ICML 2020): per class, facility location on s = max d - d, with d
the distance of last-layer gradients and a share of the budget proportional to the class. The weight of a
pick is the number of examples whose gradient it is nearest to; weights add up to the sizes of the classes
that have a pick, n if all have.

Released code (DeepCore 74ec709): s has 1e-3 added, and weights start at 1 before the sizes are added: k
more in sum. Gradients come from a mean loss over batches of 128 within the class, so those in the last,
partial batch are longer (`mean_loss_batch`) and are picked too often; which they are depends on the order.

Gradients stay in factors: <g_i, g_j> = (delta_i . delta_j)(1 + h_i . h_j), O(n_c^2 (C + d)) per class.
Subsets are nested and weights are not, so every budget is a selection of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.gradients import Factors, mean_loss_scale
from winnow.select.engine.greedy import lazy
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.similarity import Closeness
from winnow.select.engine.subset import Subset, View, subset


class CraigParams(Params):
    weights: Literal["sizes", "one_plus_sizes"] = "sizes"
    offset: float = Field(default=0.0, ge=0)
    mean_loss_batch: int = Field(default=0, ge=0)
    quotas: Grouping = "labels"


RELEASED = {"weights": "one_plus_sizes", "offset": 1e-3, "mean_loss_batch": 128}


def needs(_: CraigParams) -> Signals:
    return {"features": {}, "logits": {}}


@plugin(
    params=CraigParams,
    variants={"paper": {}, "released": RELEASED},
    needs=needs,
    source="Mirzasoleiman, Bilmes and Leskovec, ICML 2020, arXiv 1906.01827",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: CraigParams) -> Subset:
    """Return the medoids with their weights; the fact `objective` is the facility location per class.

    signals: `features` (n, d) and `logits` (n, C) of the proxy; labels.
    """
    from winnow.select.engine.facility_location import FacilityLocation, cluster_sizes

    factors = Factors.of(view, "craig")
    gradients = _as_released(factors, view, params) if params.mean_loss_batch else factors
    weight = np.zeros(view.n)

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        part = gradients.take(group)
        similarity = Closeness(part, view.memory_gb, offset=params.offset)
        function = FacilityLocation(similarity, view.memory_gb)
        order, _ = lazy(function, count)
        weight[group[order]] = cluster_sizes(similarity, order)
        return order, {"objective": function.value()}

    inner = in_order_of_value(choose, gradients.features, gradients.residual)
    chosen = choose_in_groups(view, budget, np.arange(view.n), params.quotas, "craig", inner)
    extra = 1 if params.weights == "one_plus_sizes" else 0
    return subset(chosen.index, facts=chosen.facts, weight=weight[chosen.index] + extra)


def _as_released(factors: Factors, view: View, params: CraigParams) -> Factors:
    """Return the gradients of the mean losses of batches, which are cut within the groups."""
    scale = np.empty(view.n)
    for group in groups_of(view.labels) if params.quotas == "labels" else [np.arange(view.n)]:
        scale[group] = mean_loss_scale(len(group), params.mean_loss_batch)
    return factors.scaled(scale)
