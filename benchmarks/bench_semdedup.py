"""SemDeDup on 250,000, 500,000 and 1,000,000 x 512 float16 embeddings, a fifth planted near-duplicates.

The peer states the comparison inside clusters plainly: float32 rows of a cluster, its full matrix of
cosines, and either the maximum over all earlier rows (released) or a loop over the kept ones (paper).
It is given our clusters and eps and its time includes the clustering, so that what differs is the
comparison alone. Quality is the share of examples on which both decide alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.clusters import tree_kmeans, unit
from winnow.select.engine.duplicates import ROUNDING, cluster_orders
from winnow.select.engine.subset import View
from winnow.select.semdedup import SemDeDupParams, select

SIZES, D, PLANTED = (250_000, 500_000, 1_000_000), 512, 0.2
CENTRES, BLOCK = 1000, 8192


def planted(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, sources): unit rows around centres; the last ones copy a source at cosine 0.98."""
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((CENTRES, D), np.float32))
    originals = n - int(PLANTED * n)
    rows, sources = np.empty((n, D), np.float16), random.integers(originals, size=n - originals)
    for start, stop, spread in ((0, originals, 1.0), (originals, n, 0.2)):
        for i in range(start, stop, BLOCK):
            part = slice(i, min(i + BLOCK, stop))
            noise = unit(random.standard_normal((part.stop - i, D), np.float32))
            if start == 0:
                base = centres[random.integers(CENTRES, size=len(noise))]
            else:
                base = rows[sources[i - originals : part.stop - originals]].astype(np.float32)
            rows[part] = unit(base + spread * noise)
    return rows, sources


def plain(rows: np.ndarray, orders: list[np.ndarray], eps: float, rule: str) -> np.ndarray:
    """Return (n,) bool: which examples stay, with a full float32 matrix for every cluster."""
    stay = np.ones(len(rows), bool)
    for order in orders:
        block = torch.nn.functional.normalize(torch.from_numpy(rows[order]).float(), dim=1)
        cosines = torch.tril(block @ block.T, diagonal=-1)
        if rule == "against_all":
            stay[order] = (cosines.max(dim=1).values <= 1 - eps - ROUNDING).numpy()
            continue
        similar = (cosines > 1 - eps - ROUNDING).numpy()
        for j in range(len(order)):
            stay[order[j]] = not (similar[j, :j] & stay[order[:j]]).any()
    return stay


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    seconds: dict[str, list[float]] = {"against_all": [], "against_kept": []}
    for n in SIZES:
        rows, sources = planted(n)
        view = View(n, np.full(n, -1), {"embeddings": rows})
        budget = n - len(sources)
        ours = {}
        for rule in seconds:
            params = SemDeDupParams(chain_rule=rule)
            ours[rule] = timed(partial(select, view, budget, np.random.default_rng(0), params))
            seconds[rule].append(ours[rule][0])
        memory = peak_gb()
        clusters_s, orders = timed(partial(our_clusters, rows))
        for rule, (ours_s, chosen) in ours.items():
            comparison_s, expected = timed(partial(plain, rows, orders, chosen.facts["eps"], rule))
            stay = np.zeros(n, bool)
            stay[chosen.index] = True
            recall = np.mean(~(stay[sources] & stay[budget:]))
            yield Comparison(
                name=f"semdedup/{rule}",
                input=f"{n} x {D} float16, planted pairs found {recall:.4f}{growth(seconds[rule])}",
                n=n,
                ours_s=ours_s,
                peer="full matrices on our clusters, at our eps",
                peer_s=clusters_s + comparison_s,
                ratio=(clusters_s + comparison_s) / ours_s,
                quality=float(np.mean(stay == expected)),
                quality_is="same decisions",
                peak_gb=memory,
            )


def our_clusters(rows: np.ndarray) -> list[np.ndarray]:
    cells = tree_kmeans(rows, SemDeDupParams().cluster_size, np.random.default_rng(0), memory_gb=2.0)
    return cluster_orders(rows, cells, "hard")


def growth(seconds: list[float]) -> str:
    """Return the slope of log time on log n over the sizes so far, from the second one on."""
    if len(seconds) < 2:
        return ""
    return f", time ~ n^{np.polyfit(np.log(SIZES[: len(seconds)]), np.log(seconds), 1)[0]:.2f}"
