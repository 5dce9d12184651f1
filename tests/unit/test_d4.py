"""D4: what deduplication drops comes last, the rest is ranked by new prototypes."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.d4 import D4Params, select
from winnow.select.engine.clusters import kmeans, unit
from winnow.select.engine.subset import Subset, View


def run(rows: np.ndarray, budget: int | None, **params: object) -> Subset:
    view = View(len(rows), np.full(len(rows), -1), {"embeddings": rows})
    return select(view, budget, np.random.default_rng(0), D4Params(**params))  # type: ignore[arg-type]


def with_copies(n: int = 160, copies: int = 40, d: int = 8) -> np.ndarray:
    """The last rows equal the first ones."""
    rows = np.random.default_rng(0).normal(size=(n, d))
    rows[n - copies :] = rows[:copies]
    return rows.astype(np.float32)


@pytest.mark.parametrize("rule", ["against_kept", "against_all"])
@pytest.mark.parametrize("budget", [10, 80, 120])
def test_no_copy_is_kept_up_to_the_deduplicated_size(rule: str, budget: int) -> None:
    rows = with_copies()
    chosen = run(rows, budget, chain_rule=rule)
    assert chosen.facts["deduplicated"] == 120
    assert len(np.unique(rows[chosen.index], axis=0)) == budget
    rest = run(rows, None, chain_rule=rule).index[120:]
    assert len(rest) == 40 and (rest >= 120).all()


def test_without_deduplication_it_is_the_prototypes_ranking() -> None:
    rows = np.random.default_rng(1).normal(size=(150, 6)).astype(np.float32)
    chosen = run(rows, None, dedup_share=1.0, prototypes=7)
    # Farthest first from the nearest of seven centroids; the same draws as in the method.
    rng = np.random.default_rng(0)
    rng.integers(2**64, size=12, dtype=np.uint64)
    clusters = kmeans(rows, 7, rng, spherical=True, memory_gb=2.0)
    distances = 1 - (unit(rows) @ unit(clusters.centroids).T).max(axis=1)
    assert (np.diff(distances[chosen.index]) <= 2e-6).all()
    assert sorted(chosen.index) == list(range(150))


def test_clusters_are_computed_on_the_deduplicated_pool() -> None:
    """A thousand copies of one row would have centroids of their own; once dropped, they have not."""
    random = np.random.default_rng(2)
    rows = np.concatenate([random.normal(size=(60, 5)), np.tile([[5.0, 0, 0, 0, 0]], (140, 1))])
    chosen = run(rows.astype(np.float32), 61, dedup_share=61 / 200, prototypes=3)
    assert sorted(chosen.index)[:60] == list(range(60))
    assert sorted(chosen.index)[60] == 60
