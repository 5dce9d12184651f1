"""Glister: examples whose gradients lower the loss on a validation set, re-evaluated as they are taken.

Paper (Killamsetty et al., AAAI 2021): greedily take the example with the largest inner product
<g_i, G(W)> of its last-layer gradient with the validation gradient; taking j moves the last layer W by
-eta g_j, and G is evaluated again at the new W. The validation set is the pool itself (L_V = L_T), or a
stratified random `validation` share of it.

G is evaluated again when the chosen set has grown by the share `growth` (0: after every pick). The blocks do
not depend on the budget, so one ordering serves every budget. eta is about the weight that one example has
in an epoch of SGD with rate 0.1 and batches of 128.

Released code (DeepCore, commit 74ec709): the update is never called. The result is the top inner products
with the mean of the validation set's g_i, and g_i are the gradients of the mean loss of a batch
(`mean_loss_batch`), on both sides.

Cost O(u n C d) for u updates; gradients stay in factors.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.gradients import Factors
from winnow.select.engine.grouped import Choice, Grouping, choose_in_groups
from winnow.select.engine.last_layer import LastLayer
from winnow.select.engine.quotas import groups_of, interleave
from winnow.select.engine.subset import Score, Subset, View, subset


class GlisterParams(Params):
    eta: float = Field(default=0.001, ge=0)
    growth: float = Field(default=0.002, ge=0)
    update: bool = True
    validation: float = Field(default=1.0, gt=0, le=1)
    mean_loss_batch: int = Field(default=0, ge=0)
    quotas: Grouping = "none"


RELEASED = {"update": False, "mean_loss_batch": 128}


def needs(_: GlisterParams) -> Signals:
    return {"logits": {}, "features": {}}


def nested(_: GlisterParams) -> bool:
    return True


@plugin(
    params=GlisterParams,
    variants={"paper": {}, "balanced": {"quotas": "labels"}, "released": RELEASED},
    needs=needs,
    nested=nested,
    source="Killamsetty et al., AAAI 2021, arXiv 2012.10630",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: GlisterParams) -> Subset:
    """Return the greedy order of the pool, or of each class on its own, cut at the budget.

    signals: `logits` (n, C) and `features` (n, d) of a supervised proxy; labels.
    """
    factors, logits = Factors.of(view, "glister"), view.signals["logits"]
    groups = groups_of(view.labels) if params.quotas == "labels" else [np.arange(view.n)]
    gradients = factors.as_released(groups, params.mean_loss_batch) if params.mean_loss_batch else factors
    first = np.zeros(view.n)

    def choose(group: np.ndarray, count: int) -> Choice:
        held = group[_validation(view.labels[group], params.validation, rng)]
        own = gradients.take(group)
        if not params.update:
            judges = own if params.validation == 1 else gradients.take(held)
            first[group] = own.inner(judges.mean())
            return Score(first[group], "high").order()[:count], {}
        layer = LastLayer(factors.features[held], logits[held], view.labels[held])
        order, updates = _greedy(own, layer, count, params)
        return order, {"updates": updates, "validation_loss": layer.loss()}

    inner = in_order_of_value(choose, factors.features, factors.residual)
    chosen = choose_in_groups(view, budget, np.arange(view.n), params.quotas, "glister", inner)
    return subset(chosen.index, None if params.update else Score(first, "high"), facts=chosen.facts)


def _greedy(factors: Factors, layer: LastLayer, count: int, params: GlisterParams) -> tuple[np.ndarray, int]:
    """Return (order, number of updates); the layer ends where the chosen examples moved it."""
    order, updates = np.empty(0, np.int64), 0
    while len(order) < count:
        gain = factors.inner(layer.gradient())
        gain[order] = -np.inf
        block = min(max(1, int(params.growth * len(order))), count - len(order))
        picks = Score(gain, "high").order()[:block]
        layer.move(factors.take(picks), params.eta)
        order, updates = np.concatenate([order, picks]), updates + 1
    return order, updates


def _validation(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of a random share of every class; all of them for a share of 1."""
    if share == 1:
        return np.arange(len(labels))
    order = rng.permutation(len(labels))
    order = interleave([order[group] for group in groups_of(labels[order])])
    return np.sort(order[: max(1, round(share * len(labels)))])
