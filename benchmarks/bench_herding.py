"""Herding: 20,000 points in 512 dimensions, one group, 300 kept.

The peer follows the released algorithm step by step: at each pick it gathers the examples that are left,
sums the picks so far, and computes every distance anew. Released, it takes the largest; both signs are run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.bench_k_center import clustered
from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.subset import View
from winnow.select.herding import RELEASED, HerdingParams, select

N, D, BUDGET = 20_000, 512, 300


def released_order(rows: torch.Tensor, budget: int, largest: bool) -> np.ndarray:
    """Return the picks; Euclidean, float32."""
    mean, chosen = rows.mean(dim=0), torch.zeros(len(rows), dtype=torch.bool)
    positions, order = torch.arange(len(rows)), []
    for i in range(budget):
        target = (i + 1) * mean - rows[chosen].sum(dim=0)
        left = rows[~chosen]
        squares = left.pow(2).sum(1) + target.pow(2).sum() - 2 * left @ target
        distance = squares.clamp(min=1e-12).sqrt()
        pick = positions[~chosen][distance.argmax() if largest else distance.argmin()]
        chosen[pick] = True
        order.append(int(pick))
    return np.array(order)


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    rows = clustered(N, D)
    view, random = View(N, np.zeros(N, np.int64), {"features": rows}), np.random.default_rng(0)
    select(View(9, np.zeros(9, np.int64), {"features": rows[:9]}), 3, random, HerdingParams())
    mean = rows.mean(axis=0, dtype=np.float64)

    def gap(index: np.ndarray) -> float:
        return float(np.linalg.norm(rows[index].mean(axis=0, dtype=np.float64) - mean))

    for variant, params in (("paper", HerdingParams()), ("released", HerdingParams(**RELEASED))):  # type: ignore[arg-type]
        ours_s, ours = timed(lambda params=params: select(view, BUDGET, random, params))  # type: ignore[misc]
        memory, largest = peak_gb(), variant == "released"
        peer_s, peer = timed(lambda largest=largest: released_order(torch.from_numpy(rows), BUDGET, largest))  # type: ignore[misc]
        yield Comparison(
            name=f"herding/{variant}",
            input=f"{N} x {D}, {BUDGET} kept",
            n=N,
            ours_s=ours_s,
            peer=f"released algorithm{'' if largest else ', sign corrected'}",
            peer_s=peer_s,
            ratio=peer_s / ours_s,
            quality=gap(ours.index) / gap(peer),
            quality_is="gap of the mean over the peer's",
            peak_gb=memory,
        )
