"""Kernel herding: greedy picks, without replacement, that keep the maximum mean discrepancy (MMD) small.

Source: Chen, Welling and Smola, UAI 2010. With m(x) the mean of k(x, .) over the pool, pick t + 1 is

    argmax_x  m(x) - 1 / (t + 1) sum over the picks of k(x, .)

which is exact greedy minimisation of MMD for a kernel with k(x, x) = 1, here the Gaussian
exp(-||x - y||^2 / (2 l^2)); l defaults to the median heuristic. m is summed over tiles of the kernel
matrix, which is never held. O(n^2 d + budget n d), two copies of the features and a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.choice import in_order_of_value
from winnow.select.engine.gaussian import Gaussian, median_heuristic
from winnow.select.engine.grouped import Grouping, choose_in_groups
from winnow.select.engine.subset import Subset, View, finite


class KernelHerdingParams(Params):
    length_scale: float | None = Field(default=None, gt=0)
    quotas: Grouping = "none"


def needs(_: KernelHerdingParams) -> Signals:
    return {"features": {}}


def nested(_: KernelHerdingParams) -> bool:
    return True


@plugin(
    params=KernelHerdingParams,
    variants={"paper": {}},
    needs=needs,
    nested=nested,
    source="Chen, Welling and Smola, UAI 2010, arXiv 1203.3472",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: KernelHerdingParams) -> Subset:
    """Return the picks in order; the facts are the `length_scale` and the `mmd` that they reach.

    signals: `features` (n, d).
    """

    def choose(group: np.ndarray, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        rows = features[group]
        scale = median_heuristic(rows) if params.length_scale is None else params.length_scale
        order, mmd = herd(Gaussian(rows, scale), count)
        return order, {"length_scale": scale, "mmd": mmd} if count else {}

    features = finite(view, "features", "kernel_herding").astype(np.float32, copy=False)
    inner = in_order_of_value(choose, features)
    return choose_in_groups(view, budget, np.arange(view.n), params.quotas, "kernel_herding", inner)


def herd(kernel: Gaussian, count: int) -> tuple[np.ndarray, float]:
    """Return (order, MMD of the picks to the pool)."""
    mean = kernel.mean()
    similar, within = np.zeros(kernel.n), 0.0
    order = np.empty(count, np.int64)
    for t in range(count):
        best = order[t] = int(np.argmax(mean - similar / (t + 1)))
        within += 2 * similar[best] + 1
        similar += kernel.column(best)
        similar[best] = np.inf
    square = mean.mean() - 2 * mean[order].mean() + within / count**2 if count else 0.0
    return order, float(np.sqrt(max(square, 0.0)))
