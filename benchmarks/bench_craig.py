"""CRAIG on one class of 5,000 examples, 10 outputs, 512 features, 500 kept, from logits and features.

The peer follows the released algorithm step by step: the outer products delta (x) [1, h] of all examples,
5,130 numbers each, all distances between them, s = max d - d + 1e-3, and lazy greedy over a heap whose gain
is a sum over one column. It runs on the gradients of mean losses over batches, as released, and on those of
every example's own loss.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.bench_gradmatch import explicit_gradients, proxy_view
from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.craig import RELEASED, CraigParams, select
from winnow.select.engine.gradients import mean_loss_scale
from winnow.select.engine.subset import View

N, CLASSES, D, BUDGET = 5000, 10, 512, 500


def released_similarity(view: View, scale: np.ndarray) -> np.ndarray:
    """Return max d - d + 1e-3, (n, n) float32."""
    rows = explicit_gradients(view, scale)
    squares = rows.pow(2).sum(dim=1)
    distance = (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clamp(min=1e-12).sqrt()
    similarity: np.ndarray = (distance.max() - distance + 1e-3).numpy()
    return similarity


def released_order(similarity: np.ndarray) -> np.ndarray:
    """Return the lazy greedy's picks."""
    nearest, chosen = np.zeros(len(similarity), np.float32), []
    heap = [(-float(column.sum()), i) for i, column in enumerate(similarity.T)]
    heapq.heapify(heap)
    while len(chosen) < BUDGET:
        _, i = heapq.heappop(heap)
        gain = float(np.maximum(similarity[:, i], nearest).sum() - nearest.sum())
        if not heap or -gain <= heap[0][0]:
            chosen.append(i)
            nearest = np.maximum(similarity[:, i], nearest)
        else:
            heapq.heappush(heap, (-gain, i))
    return np.array(chosen)


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    view, random = proxy_view(N, CLASSES, D, np.zeros(N, np.int64)), np.random.default_rng(0)
    small = proxy_view(50, CLASSES, D, np.zeros(50, np.int64))
    cases = {
        "paper": (CraigParams(), np.ones(N)),
        "released": (CraigParams(**RELEASED), mean_loss_scale(N)),  # type: ignore[arg-type]
    }
    for variant, (params, scale) in cases.items():
        select(small, 5, random, params)
        ours_s, ours = timed(lambda params=params: select(view, BUDGET, random, params).index)  # type: ignore[misc]
        memory = peak_gb()
        similarity_s, similarity = timed(lambda scale=scale: released_similarity(view, scale))  # type: ignore[misc]
        order_s, order = timed(lambda similarity=similarity: released_order(similarity))  # type: ignore[misc]
        peer_s = similarity_s + order_s
        yield Comparison(
            name=f"craig/{variant}",
            input=f"{N} x {D}, one class of {CLASSES}, {BUDGET} kept",
            n=N,
            ours_s=ours_s,
            peer=f"released algorithm{'' if variant == 'released' else ', scale mended'}",
            peer_s=peer_s,
            ratio=peer_s / ours_s,
            quality=covered(similarity, ours) / covered(similarity, order),
            quality_is="facility location over the peer's",
            peak_gb=memory,
        )


def covered(similarity: np.ndarray, index: np.ndarray) -> float:
    """Return the sum over examples of the largest similarity to the subset."""
    return float(similarity[:, index].max(axis=1).sum(dtype=np.float64))
