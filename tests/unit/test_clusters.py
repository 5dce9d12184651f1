"""k-means in blocks: float16 input, permutations, levels, degenerate rows."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select.engine import clusters as engine
from winnow.select.engine.clusters import Clusters, content_order, kmeans, tree_kmeans, unit


def blobs(n: int, k: int = 5, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    classes = random.integers(k, size=n)
    centres = 10 * unit(random.normal(size=(k, d)))
    return (centres[classes] + 0.1 * random.normal(size=(n, d))).astype(np.float32), classes


def flat(rows: np.ndarray, k: int, spherical: bool = True, seed: int = 0) -> Clusters:
    return kmeans(rows, k, np.random.default_rng(seed), spherical=spherical, memory_gb=2.0)


def tree(rows: np.ndarray, size: int) -> Clusters:
    return tree_kmeans(rows, size, np.random.default_rng(0), memory_gb=2.0)


@pytest.mark.parametrize("spherical", [True, False])
def test_every_row_is_in_the_cell_of_its_nearest_centroid(
    spherical: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BLOCK", 64)
    rows = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float16)
    found = flat(rows, 7, spherical)
    points = unit(rows) if spherical else rows.astype(np.float32)
    distances = ((points[:, None] - found.centroids[None]) ** 2).sum(axis=2)
    assert (found.assignment == distances.argmin(axis=1)).all()
    assert sorted(np.concatenate(found.members)) == list(range(300))


def test_lloyd_has_converged_on_separated_blobs() -> None:
    rows, classes = blobs(400, 2)
    found = flat(rows, 2, spherical=False)
    assert len({(a, b) for a, b in zip(found.assignment, classes, strict=True)}) == 2
    means = [rows[found.assignment == c].mean(axis=0) for c in range(2)]
    np.testing.assert_allclose(found.centroids, means, atol=1e-4)


@pytest.mark.parametrize("build", [lambda rows: flat(rows, 6), lambda rows: tree(rows, 40)])
def test_permuting_the_rows_permutes_the_clusters_bit_for_bit(build) -> None:  # type: ignore[no-untyped-def]
    rows = np.random.default_rng(2).normal(size=(250, 9)).astype(np.float16)
    order = np.random.default_rng(3).permutation(250)
    first, moved = build(rows), build(rows[order])
    assert (moved.centroids == first.centroids).all()
    assert (moved.assignment == first.assignment[order]).all()


def test_content_order_depends_on_the_seed_and_moves_with_the_rows() -> None:
    rows = np.random.default_rng(4).normal(size=(100, 3)).astype(np.float32)
    order = content_order(rows, np.random.default_rng(0))
    assert order.tolist() != content_order(rows, np.random.default_rng(1)).tolist()
    assert order.tolist() != list(range(100))
    assert (rows[::-1][content_order(rows[::-1], np.random.default_rng(0))] == rows[order]).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.float16, np.float64])
@pytest.mark.parametrize("d", [1, 3, 4])
def test_content_order_takes_any_type(kind: type, d: int) -> None:
    rows = np.arange(60).reshape(-1, d).astype(kind)
    order = np.random.default_rng(5).permutation(len(rows))
    moved = order[content_order(rows[order], np.random.default_rng(0))]
    assert moved.tolist() == content_order(rows, np.random.default_rng(0)).tolist()


def test_content_order_does_not_tell_the_two_zeros_apart() -> None:
    rows = np.zeros((6, 2), np.float32)
    rows[::2] = -0.0
    assert content_order(rows, np.random.default_rng(0)).tolist() == list(range(6))


def test_rows_too_small_to_be_squared_in_float32_get_norm_one() -> None:
    rows = np.array([[3e-30, 4e-30], [0, 0]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_training_takes_a_sample_that_fits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    seen = []
    train = faiss.Kmeans.train
    monkeypatch.setattr(faiss.Kmeans, "train", lambda self, x: (seen.append(x.shape), train(self, x))[1])
    rows = np.random.default_rng(5).normal(size=(3000, 4)).astype(np.float16)
    kmeans(rows, 3, np.random.default_rng(0), spherical=True, memory_gb=2.0)
    kmeans(rows, 3, np.random.default_rng(0), spherical=True, memory_gb=100 * 4 * 4 / 2**30)
    assert seen == [(768, 4), (100, 4)]


def test_tree_cells_are_small_enough_and_centroids_are_mean_directions() -> None:
    rows = np.random.default_rng(6).normal(size=(600, 5)).astype(np.float16)
    found = tree(rows, 50)
    assert max(map(len, found.members)) <= 50
    assert sorted(np.concatenate(found.members)) == list(range(600))
    for cell, centroid in zip(found.members, found.centroids, strict=True):
        np.testing.assert_allclose(centroid, unit(unit(rows[cell]).mean(axis=0)[None])[0], atol=1e-5)


def test_equal_rows_stay_in_one_cell() -> None:
    rows = np.concatenate([np.ones((120, 4)), np.eye(4).repeat(5, axis=0)]).astype(np.float32)
    found = tree(rows, 10)
    assert len(set(found.assignment[:120])) == 1
    assert len(tree(np.zeros((50, 4), np.float32), 10).members) == 1


def test_more_clusters_than_rows() -> None:
    rows = np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)
    assert len(flat(rows, 9).members) == 5
    assert len(flat(np.ones((5, 3), np.float32), 9).members) == 1
