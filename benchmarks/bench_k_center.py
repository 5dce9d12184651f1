"""k-center: 20,000 points in 512 dimensions, 1,000 centres.

The peer follows the released algorithm step by step: a (budget x n) matrix of distances, one row more per
pick, whose minimum over the rows so far is taken anew at each. The second line compares with memory: a
lean loop reads all features once per pick, and cannot do so faster than a matrix-vector product does. Two of
the peer's picks may swap places: it expands the square in float32, ours subtracts first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.farthest import most_central
from winnow.select.engine.subset import View
from winnow.select.k_center import KCenterParams, select

N, D, BUDGET, PASSES = 20_000, 512, 1000, 50


def released_order(rows: torch.Tensor, budget: int, first: int) -> np.ndarray:
    """Return the picks of the algorithm that keeps every distance; Euclidean, float32."""
    squares = rows.pow(2).sum(1)
    distances = torch.full((budget, len(rows)), -1.0)
    left = torch.ones(len(rows), dtype=torch.bool)
    order = [first]
    while len(order) < budget:
        left[order[-1]] = False
        pick = rows[order[-1] : order[-1] + 1]
        block = squares[left] + pick.pow(2).sum() - 2 * (pick @ rows[left].T)[0]
        distances[len(order) - 1, left] = block.clamp(min=1e-12).sqrt()
        order.append(int(distances[: len(order)].min(dim=0).values.argmax()))
    return np.array(order)


def clustered(n: int, d: int, classes: int = 10) -> np.ndarray:
    """Return points around one centre per class, cut at zero as penultimate features are."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(classes, d))[random.integers(classes, size=n)] + random.normal(size=(n, d))
    return np.maximum(rows, 0).astype(np.float32)


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    rows = clustered(N, D)
    view, random = View(N, np.full(N, -1), {"features": rows}), np.random.default_rng(0)
    select(View(9, np.full(9, -1), {"features": rows[:9]}), 5, random, KCenterParams())
    ours_s, ours = timed(lambda: select(view, BUDGET, random, KCenterParams()))
    memory = peak_gb()
    pass_s = min(timed(lambda: rows @ rows[0])[0] for _ in range(PASSES))
    first = most_central(rows, rows)
    peer_s, peer = timed(lambda: released_order(torch.from_numpy(rows), BUDGET, first))
    for name, what, seconds in (
        ("k_center", "released algorithm (all distances kept)", peer_s),
        ("k_center/bandwidth", f"{BUDGET} reads of the features (fastest of {PASSES})", BUDGET * pass_s),
    ):
        yield Comparison(
            name=name,
            input=f"{N} x {D}, {BUDGET} kept",
            n=N,
            ours_s=ours_s,
            peer=what,
            peer_s=seconds,
            ratio=seconds / ours_s,
            quality=float(np.isin(ours.index, peer).mean()),
            quality_is="share of picks that the released algorithm makes too",
            peak_gb=memory,
        )
