"""GradMatch: few weighted examples whose gradients add up to the gradient of all.

Paper (Killamsetty et al., ICML 2021): minimise ||G - sum w_i g_i||^2 + lam ||w||^2 over w >= 0 with at most
b non-zeros by orthogonal matching pursuit; g_i is the gradient of example i at the last layer and G the mean
gradient, of each class (`quotas: labels`) or of the pool. The weights given are n_k times the w_i of a group
of n_k examples: they approximate its sum, so that groups count by their size.

Released code (DeepCore, commit 74ec709): g_i is the gradient of the mean loss of a batch, so it is divided
by the batch's size (`mean_loss_batch`), lam = 1 swamps the Gram matrix, and the picks are close to the top
inner products. Weights of either sign guide the pursuit; at its end, non-negative least squares on the
system (Gram + lam I, A G) gives the weights, and only examples above zero are returned: the budget may not
be met.

Where the pursuit ends early (no further weight lowers the objective), the budget is filled with weight 0, the
largest inner products with G first. A group with G = 0 has nothing to match; its examples weigh the same.
Cost per group: `engine/pursuit.py`; gradients stay in factors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.gradients import Factors
from winnow.select.engine.grouped import Choice, Grouping, choose_in_groups
from winnow.select.engine.pursuit import Pursuit, pursue
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.subset import Subset, View, subset


class GradMatchParams(Params):
    lam: float = Field(default=0.5, ge=0)
    weights: Literal["nonnegative", "released"] = "nonnegative"
    mean_loss_batch: int = Field(default=0, ge=0)
    quotas: Grouping = "labels"


RELEASED = {"lam": 1.0, "weights": "released", "mean_loss_batch": 128}


def needs(_: GradMatchParams) -> Signals:
    return {"logits": {}, "features": {}}


@plugin(
    params=GradMatchParams,
    variants={"paper": {}, "pooled": {"quotas": "none"}, "released": RELEASED},
    needs=needs,
    source="Killamsetty et al., ICML 2021, arXiv 2103.00123",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: GradMatchParams) -> Subset:
    """Return the union of the groups' matches with their weights.

    signals: `logits` (n, C) and `features` (n, d) of a supervised proxy; labels.
    """
    factors = Factors.of(view, "gradmatch")
    if params.mean_loss_batch:
        groups = groups_of(view.labels) if params.quotas == "labels" else [np.arange(view.n)]
        factors = factors.as_released(groups, params.mean_loss_batch)
    released = params.weights == "released"
    weight = np.zeros(view.n)

    def choose(group: np.ndarray, count: int) -> Choice:
        own = factors.take(group)
        target = own.mean()
        _refuse_more_than_fits(count, view.memory_gb)
        found = pursue(own, target, count, params.lam, not released, view.memory_gb)
        if released:
            found = _released_weights(own, target, found, params.lam)
        fact = {"matched": len(found.order), "residual": _residual(own, target, found)}
        if not released:
            found = _fill(own, target, found, count)
        weight[group[found.order]] = found.weight
        return found.order, fact

    inner = in_order_of_value(choose, factors.features, factors.residual)
    chosen = choose_in_groups(view, budget, np.arange(view.n), params.quotas, "gradmatch", inner)
    size = len(chosen.index) if released else None
    return subset(chosen.index, size=size, facts=chosen.facts, weight=weight[chosen.index])


def _refuse_more_than_fits(count: int, memory_gb: float) -> None:
    needed = 8 * count**2 / 2**30
    if needed > memory_gb:
        raise UserError(f"gradmatch: {count} picks of one group need {needed:.1f} GB; take a smaller budget")


def _residual(factors: Factors, target: np.ndarray, found: Pursuit) -> float:
    """Return ||G - sum w_i g_i|| / ||G||; 0 where there is nothing to match."""
    gap = float(np.linalg.norm(target - factors.take(found.order).sum(found.weight)))
    return gap / (float(np.linalg.norm(target)) or 1.0)


def _fill(factors: Factors, target: np.ndarray, found: Pursuit, count: int) -> Pursuit:
    """Return exactly `count` picks, weighted for the group's sum; see the module's docstring for the rule."""
    left = np.setdiff1d(np.arange(factors.n), found.order)
    best = np.argsort(-factors.inner(target)[left], kind="stable")
    rest = left[best[: count - len(found.order)]]
    idle = 0.0 if len(found.order) else factors.n / max(count, 1)
    weight = np.concatenate([found.weight * factors.n, np.full(len(rest), idle)])
    return Pursuit(np.concatenate([found.order, rest]), weight)


def _released_weights(factors: Factors, target: np.ndarray, found: Pursuit, lam: float) -> Pursuit:
    """Return the picks above zero in min over x >= 0 of ||(K + lam I) x - A G||, K = A A'."""
    from scipy.optimize import nnls

    if (found.weight >= 0).all():  # it solves the system, so nothing can be nearer
        return Pursuit(found.order[found.weight > 0], found.weight[found.weight > 0])
    chosen = factors.take(found.order)
    system = chosen.gram(slice(None), slice(None)).astype(np.float64) + lam * np.eye(chosen.n)
    weight = nnls(system, chosen.inner(target).astype(np.float64), maxiter=30 * chosen.n)[0]
    return Pursuit(found.order[weight > 0], weight[weight > 0])
