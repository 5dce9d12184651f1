"""What every method must do, whichever it is: add a file to select/ and it is tested here."""

from __future__ import annotations

import numpy as np
import pytest

from winnow import registry
from winnow.errors import UserError
from winnow.select.engine.subset import Subset, View, check

CASES = [
    (name, variant)
    for name in registry.names("select")
    for variant in registry.load("select", name, "test").variants
]


def params_of(name: str, variant: str) -> tuple[registry.Plugin, registry.Params]:
    plugin = registry.load("select", name, "test")
    return plugin, plugin.params(**plugin.variants[variant])


def make_view(n: int = 90, classes: int = 5, seed: int = 0, rows: np.ndarray | None = None) -> View:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(n, 12)).astype(np.float32) if rows is None else rows
    labels = random.integers(classes, size=n)
    return View(
        n,
        labels,
        {"embeddings": embeddings, "latent_classes": random.integers(classes, size=n)},
    )


def choose(name: str, variant: str, view: View, budget: int | None, seed: int = 3) -> Subset:
    plugin, params = params_of(name, variant)
    chosen: Subset = plugin.function(view, budget, np.random.default_rng(seed), params)
    check(chosen, view, budget)
    return chosen


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("budget", [0, 1, 37, 89, 90, None])
def test_budget_is_exact_and_positions_are_distinct(name: str, variant: str, budget: int | None) -> None:
    chosen = choose(name, variant, make_view(), budget)
    assert chosen.index.dtype == np.int64 and chosen.weight.dtype == np.float32
    assert len(set(chosen.index)) == len(chosen.index)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_equal_seeds_give_equal_subsets(name: str, variant: str) -> None:
    first, second = (choose(name, variant, make_view(), 40) for _ in range(2))
    assert (first.index == second.index).all()


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_inputs_are_not_changed(name: str, variant: str) -> None:
    view = make_view()
    before = {key: value.copy() for key, value in view.signals.items()}
    choose(name, variant, view, 40)
    assert all((view.signals[key] == before[key]).all() for key in before)


NESTED = [
    (name, variant)
    for name, variant in CASES
    if params_of(name, variant)[0].nested(params_of(name, variant)[1])
]


@pytest.mark.parametrize(("name", "variant"), NESTED)
def test_nested_methods_give_prefixes(name: str, variant: str) -> None:
    full = choose(name, variant, make_view(), None).index
    for budget in (0, 1, 30, 60, 90):
        assert choose(name, variant, make_view(), budget).index.tolist() == full[:budget].tolist()


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("kind", ["constant", "duplicated", "one class", "singletons"])
def test_degenerate_inputs_are_handled(name: str, variant: str, kind: str) -> None:
    n = 40
    base = np.random.default_rng(1).normal(size=(n, 12)).astype(np.float32)
    rows = {
        "constant": np.ones_like(base),
        "duplicated": np.repeat(base[:20], 2, axis=0),
    }.get(kind, base)
    classes = {"one class": np.zeros(n, int), "singletons": np.arange(n)}.get(kind, np.arange(n) % 3)
    view = View(n, classes, {"embeddings": rows, "latent_classes": classes})
    for budget in (0, 7, n):
        choose(name, variant, view, budget)


DETERMINISTIC = [(name, variant) for name, variant in CASES if name not in ("random", "full")]


@pytest.mark.parametrize(("name", "variant"), DETERMINISTIC)
def test_permuting_the_pool_permutes_the_choice(name: str, variant: str) -> None:
    view = make_view(seed=5)
    order = np.random.default_rng(9).permutation(view.n)
    moved = View(
        view.n,
        view.labels[order],
        {key: value[order] for key, value in view.signals.items()},
    )
    assert set(order[choose(name, variant, moved, 33).index]) == set(choose(name, variant, view, 33).index)


@pytest.mark.parametrize(("name", "variant"), DETERMINISTIC)
def test_values_that_are_not_finite_are_refused(name: str, variant: str) -> None:
    view = make_view()
    view.signals["embeddings"][3, 2] = np.nan
    with pytest.raises(UserError, match="finite"):
        choose(name, variant, view, 10)
