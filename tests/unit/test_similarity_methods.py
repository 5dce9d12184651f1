"""Facility location, graph cut, log-determinant, coverage, disparity: as methods on signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from winnow import registry
from winnow.errors import UserError
from winnow.select.engine.subset import Subset, View


def view_of(n: int = 80, seed: int = 0, memory_gb: float = 2.0) -> View:
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=n)
    signals = {
        "features": (random.normal(size=(4, 8))[labels] + random.normal(size=(n, 8))).astype(np.float32),
        "logits": random.normal(size=(n, 4)).astype(np.float32),
    }
    return View(n, labels, signals, memory_gb=memory_gb)


def run(name: str, view: View, budget: int | None, **params: Any) -> Subset:
    method = registry.load("select", name, "test")
    return method.function(view, budget, np.random.default_rng(0), method.params(**params))  # type: ignore[no-any-return]


def similarity(view: View, kind: str) -> np.ndarray:
    """The similarities from their definitions, gradients as outer products, float64."""
    rows = view.signals["features"].astype(np.float64)
    if kind == "euclidean":
        distances = np.linalg.norm(rows[:, None] - rows, axis=2)
        return distances.max() - distances
    if kind == "gradient":
        logits = view.signals["logits"].astype(np.float64)
        delta = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        delta[np.arange(view.n), view.labels] -= 1
        rows = np.einsum("nc,nd->ncd", delta, np.hstack([np.ones((view.n, 1)), rows])).reshape(view.n, -1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (1 + rows @ rows.T) / 2


def value(name: str, s: np.ndarray, chosen: list[int]) -> float:
    if not chosen:
        return 0.0
    inside = s[np.ix_(chosen, chosen)]
    if name == "facility_location":
        return float(s[:, chosen].max(axis=1).sum())
    if name == "graph_cut":
        return float(s[:, chosen].sum() - inside.sum())
    return float(np.linalg.slogdet(inside + 1e-3 * np.eye(len(chosen)))[1])


CASES = [
    (name, kind)
    for name in ("facility_location", "graph_cut", "log_det")
    for kind in ("cosine", "euclidean", "gradient")
    if (name, kind) != ("log_det", "euclidean")
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_pick_is_a_best_one_by_the_definition(name: str, kind: str) -> None:
    view = view_of(40)
    s, chosen = similarity(view, kind), []
    found = run(name, view, 10, similarity=kind)
    for pick in found.index.tolist():
        left = [j for j in range(40) if j not in chosen]
        values = {j: value(name, s, [*chosen, j]) for j in left}
        assert values[pick] >= max(values.values()) - 1e-4
        chosen.append(pick)
    assert found.facts["groups"][0]["objective"] == pytest.approx(value(name, s, chosen), rel=1e-4)


@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "log_det"])
def test_quotas_select_within_classes(name: str) -> None:
    view = view_of(80)
    found = run(name, view, 20, quotas="labels")
    counts = np.bincount(view.labels[found.index], minlength=4)
    assert np.abs(counts - 20 * np.bincount(view.labels, minlength=4) / 80).max() <= 1
    members = np.flatnonzero(view.labels == 2)
    part = View(len(members), view.labels[members], {k: v[members] for k, v in view.signals.items()})
    alone = run(name, part, int(counts[2]))
    assert members[alone.index].tolist() == found.index[view.labels[found.index] == 2].tolist()


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_storage_costs_little_of_the_objective(storage: str) -> None:
    view = view_of(80)
    s = similarity(view, "cosine")
    full, half = (
        run("facility_location", view, 12, storage=kind).index.tolist() for kind in ("float32", storage)
    )
    assert value("facility_location", s, half) >= 0.995 * value("facility_location", s, full)


def test_little_memory_gives_the_objective_of_much() -> None:
    much, little = (
        run("facility_location", view_of(memory_gb=m), 30).facts["groups"][0] for m in (2.0, 1e-5)
    )
    assert little["objective"] == pytest.approx(much["objective"], rel=1e-6)


def test_stochastic_is_near_exact_and_not_nested() -> None:
    method = registry.load("select", "facility_location", "test")
    exact = run("facility_location", view_of(), 20).facts["groups"][0]["objective"]
    found = run("facility_location", view_of(), 20, optimiser="stochastic").facts["groups"][0]["objective"]
    assert 0.97 * exact <= found <= exact
    assert not method.nested(method.params(optimiser="stochastic"))


def test_released_log_det_picks_what_the_paper_avoids() -> None:
    view = view_of(80)
    kernel = similarity(view, "cosine")
    paper, released = (
        run("log_det", view, 9, gain=gain).index.tolist() for gain in ("log_det", "redundancy")
    )
    assert paper != released
    assert value("log_det", kernel, released) < value("log_det", kernel, paper) - 5


def test_the_released_variant_of_log_det_looks_at_gradients() -> None:
    method = registry.load("select", "log_det", "test")
    params = method.params(**method.variants["released"])
    assert (params.gain, params.similarity) == ("redundancy", "gradient")
    assert set(method.needs(params)) == {"features", "logits"}


def test_similarities_that_float16_cannot_hold_are_refused() -> None:
    view = view_of(40)
    view.signals["features"][:] *= 1e5
    full = run("graph_cut", view, 9, similarity="euclidean").index.tolist()
    assert (
        len(set(full) & set(run("graph_cut", view, 9, similarity="euclidean", storage="bfloat16").index)) > 3
    )
    with pytest.raises(UserError, match="float16"):
        run("graph_cut", view, 9, similarity="euclidean", storage="float16")


@pytest.mark.parametrize("concave", ["sqrt", "log", "cap"])
def test_coverage_takes_negative_parts_as_features_of_their_own(concave: str) -> None:
    view = view_of(40)
    x = view.signals["features"].astype(np.float64)
    x = np.hstack([np.maximum(x, 0), np.maximum(-x, 0)])
    phi = {
        "sqrt": np.sqrt,
        "log": np.log1p,
        "cap": lambda amount: np.minimum(amount, 0.1 * x.sum(axis=0)),
    }[concave]
    covered, chosen = np.zeros(16), []
    found = run("feature_coverage", view, 8, concave=concave)
    for pick in found.index.tolist():
        gains = (phi(covered + x) - phi(covered)).sum(axis=1)
        left = [j for j in range(40) if j not in chosen]
        assert gains[pick] >= gains[left].max() - 1e-5
        covered = covered + x[pick]
        chosen.append(pick)
    assert found.facts["groups"][0]["objective"] == pytest.approx(phi(covered).sum(), rel=1e-5)


@pytest.mark.parametrize("of", ["min", "sum"])
def test_disparity_starts_far_out_and_takes_the_best(of: str) -> None:
    view = view_of(50)
    rows = view.signals["features"].astype(np.float64)
    d = np.linalg.norm(rows[:, None] - rows, axis=2)
    order = run("disparity", view, 12, of=of).index.tolist()
    assert order[0] == np.argmax(np.linalg.norm(rows - rows.mean(axis=0), axis=1))
    for k in range(1, 12):
        reached = d[order[:k]].min(axis=0) if of == "min" else d[order[:k]].sum(axis=0)
        left = [j for j in range(50) if j not in order[:k]]
        assert reached[order[k]] >= reached[left].max() - 1e-4


def test_isolated_pairs_are_settled_by_values_and_not_by_position() -> None:
    """Both members of a pair gain the same; permuting the pool must not change which is taken."""
    angles = np.repeat(np.arange(6) * np.pi / 3, 2) + np.tile([0.0, 0.01], 6)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    order = np.random.default_rng(0).permutation(12)
    none = np.full(12, -1)
    first = run("facility_location", View(12, none, {"features": rows}), 6).index
    moved = run("facility_location", View(12, none, {"features": rows[order]}), 6).index
    assert order[moved].tolist() == first.tolist()
