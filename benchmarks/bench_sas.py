"""SAS on one latent class of 5,000 points in 128 dimensions, similarity included.

The peer follows the released procedure step by step: cosine similarities of 1,024 x 1,024 blocks by
broadcasting (a temporary of 1,024 x 128 x 1,024 numbers), then a lazy greedy over a heap whose add
step zeroes the row of the pick and whose gain subtracts the column sum over the picks so far.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.graph_cut import cut_value
from winnow.select.engine.similarity import InnerProducts
from winnow.select.engine.subset import View
from winnow.select.sas import RELEASED, SASParams, select

N, D, SHARE, BLOCK = 5000, 128, 0.2, 1024


def released_similarity(rows: torch.Tensor) -> np.ndarray:
    """Return the (n, n) cosines, computed block by block with broadcasting, cut at zero."""
    similarity = torch.empty(len(rows), len(rows))
    for i in range(0, len(rows), BLOCK):
        for j in range(0, len(rows), BLOCK):
            left, right = rows[i : i + BLOCK], rows[j : j + BLOCK]
            block = torch.cosine_similarity(left[:, :, None], right.T[None, :, :], dim=1)
            similarity[i : i + BLOCK, j : j + BLOCK] = block
    return torch.where(similarity < 0, 0.0, similarity).numpy()


def released_order(similarity: np.ndarray) -> np.ndarray:
    """Return the lazy greedy's order of the whole class."""
    similarity, chosen = similarity.copy(), []
    heap = [(-similarity[i].sum(), i) for i in range(len(similarity))]
    heapq.heapify(heap)
    while heap:
        _, i = heapq.heappop(heap)
        gain = similarity[i].sum() - similarity[chosen, i].sum()
        if not heap or -gain <= heap[0][0]:
            chosen.append(i)
            similarity[i] = 0
        else:
            heapq.heappush(heap, (-gain, i))
    return np.array(chosen)


def clustered(n: int, d: int) -> np.ndarray:
    """Return unit-norm points around six centres, as embeddings of one latent class look."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(6, d))[random.integers(6, size=n)] + random.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def run() -> Iterator[Comparison]:
    rows = clustered(N, D)
    signals = {"embeddings": rows, "latent_classes": np.zeros(N, np.int64)}
    view = View(N, np.full(N, -1), signals, SHARE)
    budget, random = int(SHARE * N), np.random.default_rng(0)
    torch.manual_seed(0)
    ours = {}
    for variant, params in (("released", SASParams(**RELEASED)), ("paper", SASParams())):
        ours[variant] = timed(lambda params=params: select(view, budget, random, params).index)  # type: ignore[misc]
    memory = peak_gb()
    similarity_s, similarity = timed(lambda: released_similarity(torch.from_numpy(rows)))
    order_s, order = timed(lambda: released_order(similarity))
    judge = InnerProducts(rows, 0.0, 2.0)
    reference = cut_value(judge, order[:budget])
    for variant, (seconds, index) in ours.items():
        yield Comparison(
            name=f"sas/{variant}",
            input=f"{N} x {D}, one class, {budget} kept",
            n=N,
            ours_s=seconds,
            peer="released procedure (broadcast cosine, lazy heap)",
            peer_s=similarity_s + order_s,
            ratio=(similarity_s + order_s) / seconds,
            quality=cut_value(judge, index) / reference,
            quality_is="cut objective over the peer's",
            peak_gb=memory,
        )
