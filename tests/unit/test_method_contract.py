"""What every method must do, whichever it is: add a file to select/ and it is tested here."""

from __future__ import annotations

import numpy as np
import pytest

from winnow import registry
from winnow.errors import UserError
from winnow.select.engine.choice import LEAD, order_of_value
from winnow.select.engine.subset import Subset, View, check, subset

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
    return View(n, labels, make_signals(embeddings, labels, random.integers(classes, size=n), random))


def make_signals(
    rows: np.ndarray, labels: np.ndarray, latent: np.ndarray, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Every signal that a method may need; `rows` stands for features and embeddings."""
    n, classes, epochs, proxies = len(rows), int(labels.max()) + 1, 6, 3
    logits = random.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return {
        "embeddings": rows,
        "text_embeddings": (rows + random.normal(size=rows.shape)).astype(np.float32),
        "label_similarity": random.uniform(size=n).astype(np.float32),
        "reducible_similarity": random.normal(size=n).astype(np.float32),
        "pair_facts": np.column_stack(
            [
                random.integers(6, size=n),
                random.integers(30, size=n),
                random.integers(2, size=(n, 2)),
                random.integers(100, 400, size=n),
                random.uniform(1, 4, size=n),
            ]
        ).astype(np.float32),
        "near_target": random.integers(2, size=n).astype(bool),
        "latent_classes": latent,
        "features": rows.copy(),
        "logits": logits,
        "heldout_logits": (logits + random.normal(size=logits.shape)).astype(np.float32),
        "loss_history": random.exponential(size=(n, epochs)).astype(np.float32),
        "expert_losses": random.exponential(size=n).astype(np.float32),
        "margin_history": random.normal(size=(n, epochs)).astype(np.float32),
        "correct_history": random.integers(2, size=(n, epochs)).astype(np.uint8),
        "residual_norms": random.exponential(size=(n, proxies)).astype(np.float32),
        "gradient_norms": random.exponential(size=(n, proxies)).astype(np.float32),
        "adversarial_distances": random.exponential(size=n).astype(np.float32),
    }


def choose(name: str, variant: str, view: View, budget: int | None, seed: int = 3) -> Subset:
    plugin, params = params_of(name, variant)
    chosen: Subset = plugin.function(view, budget, np.random.default_rng(seed), params)
    check(chosen, view, budget, plugin.resamples)
    return chosen


def resamples(name: str) -> bool:
    return registry.load("select", name, "test").resamples


# Drawn at random, or by position: permuting the pool does not permute the choice.
BY_CHANCE = {
    ("clipcov", "random_in_quotas"),
    ("craig", "released"),
    ("datacomp", "basic"),
    ("datacomp", "text"),
    ("datacomp", "image"),
    ("glister", "released"),
    ("gradmatch", "released"),
    ("grand", "released"),
    ("random", "plain"),
    ("random", "quota"),
    ("random", "stratified"),
    ("full", "default"),
    ("forgetting", "paper"),
    ("forgetting", "released"),
    ("late_learning", "default"),
    ("rs2", "without_replacement"),
    ("rs2", "with_replacement"),
    ("useful", "random"),
    ("useful", "balanced"),
}

# Of equal scores the lowest position wins, whatever the examples are: a ranking has no second criterion.
TIES_BY_POSITION = {
    "c_rho",
    "cal",
    "clip_score",
    "datacomp",
    "moderate",
    "prototypes",
    "sas",
    "uncertainty",
}

SIZED = [case for case in CASES if not resamples(case[0])]
RESAMPLING = [case for case in CASES if resamples(case[0])]
NESTED = [case for case in CASES if params_of(*case)[0].nested(params_of(*case)[1])]
DETERMINISTIC = [case for case in CASES if case not in BY_CHANCE]


@pytest.mark.parametrize(("name", "variant"), SIZED)
@pytest.mark.parametrize("budget", [0, 1, 37, 89, 90, None])
def test_budget_is_exact_and_positions_are_distinct(name: str, variant: str, budget: int | None) -> None:
    chosen = choose(name, variant, make_view(), budget)
    assert chosen.index.dtype == np.int64 and chosen.weight.dtype == np.float32
    for part in np.split(chosen.index, chosen.rounds):
        assert len(set(part)) == len(part)


@pytest.mark.parametrize(("name", "variant"), RESAMPLING)
def test_resampling_keeps_every_example(name: str, variant: str) -> None:
    view = make_view()
    assert set(choose(name, variant, view, view.n).index) == set(range(view.n))


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_equal_seeds_give_equal_subsets(name: str, variant: str) -> None:
    budget = 90 if resamples(name) else 40
    first, second = (choose(name, variant, make_view(), budget) for _ in range(2))
    assert (first.index == second.index).all() and (first.weight == second.weight).all()


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_inputs_are_not_changed(name: str, variant: str) -> None:
    view = make_view()
    before = {key: value.copy() for key, value in view.signals.items()}
    labels = view.labels.copy()
    choose(name, variant, view, 90 if resamples(name) else 40)
    assert all((view.signals[key] == before[key]).all() for key in before)
    assert (view.labels == labels).all()


@pytest.mark.parametrize(("name", "variant"), NESTED)
def test_nested_methods_give_prefixes(name: str, variant: str) -> None:
    full = choose(name, variant, make_view(), None).index
    for budget in (0, 1, 30, 60, 90):
        assert choose(name, variant, make_view(), budget).index.tolist() == full[:budget].tolist()


@pytest.mark.parametrize(("name", "variant"), CASES)
@pytest.mark.parametrize("kind", ["constant", "duplicated", "one class", "empty class", "singletons"])
def test_degenerate_inputs_are_handled(name: str, variant: str, kind: str) -> None:
    n, random = 40, np.random.default_rng(1)
    classes = {
        "one class": np.zeros(n, int),
        "empty class": np.arange(n) % 3 * 2,
        "singletons": np.arange(n),
    }.get(kind, np.arange(n) % 4)
    signals = make_signals(random.normal(size=(n, 12)).astype(np.float32), classes, classes, random)
    if kind == "constant":
        signals = {key: np.ones_like(value) for key, value in signals.items()}
    if kind == "duplicated":
        signals = {key: np.repeat(value[: n // 2], 2, axis=0) for key, value in signals.items()}
        classes = np.repeat(classes[: n // 2], 2)
    view = View(n, classes, signals)
    for budget in (n,) if resamples(name) else (0, 7, n):
        choose(name, variant, view, budget)


def assert_permuting_permutes(name: str, variant: str, view: View) -> None:
    order = np.random.default_rng(9).permutation(view.n)
    moved = View(view.n, view.labels[order], {key: value[order] for key, value in view.signals.items()})
    budget = view.n if resamples(name) else 33
    found = np.sort(order[choose(name, variant, moved, budget).index])
    assert found.tolist() == np.sort(choose(name, variant, view, budget).index).tolist()


@pytest.mark.parametrize(("name", "variant"), DETERMINISTIC)
@pytest.mark.parametrize("n", [90, 300])  # 300: a class, or the pool, has a batch that is not full
def test_permuting_the_pool_permutes_the_choice(name: str, variant: str, n: int) -> None:
    assert_permuting_permutes(name, variant, make_view(n, classes=2 if n > 256 else 5, seed=5))


@pytest.mark.parametrize(
    ("name", "variant"), [case for case in DETERMINISTIC if case[0] not in TIES_BY_POSITION]
)
def test_ties_between_different_examples_do_not_depend_on_the_order(name: str, variant: str) -> None:
    """Features and logits on a grid: many distances and divergences are equal, no two examples are."""
    view = make_view(81, seed=6)
    rows = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 4), axis=-1).reshape(81, 4).astype(np.float32)
    mirrored = {"embeddings": rows, "text_embeddings": rows[:, ::-1]}
    signals = {"features": rows, **mirrored, "logits": np.concatenate([rows, rows[:, :1]], axis=1)}
    view = View(81, view.labels, {**view.signals, **signals})
    assert_permuting_permutes(name, variant, view)


NEEDS = [
    (name, variant, signal)
    for name, variant in CASES
    for signal in params_of(name, variant)[0].needs(params_of(name, variant)[1])
    if signal not in ("latent_classes", "correct_history", "near_target")
]


@pytest.mark.parametrize(("name", "variant", "signal"), NEEDS)
def test_values_whose_squares_overflow_are_refused(name: str, variant: str, signal: str) -> None:
    view = make_view()
    view.signals[signal].reshape(view.n, -1)[3, 0] = -2e18
    with pytest.raises(UserError, match="too large"):
        choose(name, variant, view, view.n if resamples(name) else 10)


BY_LABEL = [case for case in CASES if getattr(params_of(*case)[1], "quotas", "none") == "labels"]


@pytest.mark.parametrize(("name", "variant"), BY_LABEL)
def test_shares_of_labels_need_a_label_for_every_example(name: str, variant: str) -> None:
    view = make_view()
    view.labels[4] = -1
    with pytest.raises(UserError, match="label"):
        choose(name, variant, view, 10)


@pytest.mark.parametrize(("name", "variant", "signal"), NEEDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(name: str, variant: str, signal: str, value: float) -> None:
    view = make_view()
    view.signals[signal].reshape(view.n, -1)[3, 0] = value
    with pytest.raises(UserError, match="finite"):
        choose(name, variant, view, view.n if resamples(name) else 10)


@pytest.mark.parametrize(
    ("index", "message"),
    [([0, -1, 2], "position -1,"), ([0, 7, 2], "position 7,"), ([0, 2, 2], "position 2 more than once")],
)
def test_positions_out_of_range_or_taken_twice_are_refused(index: list[int], message: str) -> None:
    view = View(5, np.zeros(5, np.int64))
    with pytest.raises(UserError, match=message):
        check(subset(np.array(index)), view, 3)


def test_positions_may_repeat_over_rounds_and_where_a_method_resamples() -> None:
    view = View(5, np.zeros(5, np.int64))
    check(subset(np.array([0, 1, 1, 2]), rounds=2), view, 2)
    check(subset(np.array([0, 1, 1, 2])), view, 4, resamples=True)
    with pytest.raises(UserError, match="position 1 more than once"):
        check(subset(np.array([0, 2, 1, 1]), rounds=2), view, 2)


@pytest.mark.parametrize("alike", [0, LEAD - 1, LEAD, LEAD + 3, 40])
def test_the_order_of_value_is_that_of_all_bytes(alike: int) -> None:
    random = np.random.default_rng(alike)
    first = random.integers(0, 3, (200, 20)).astype(np.float32)
    second = random.integers(0, 2, (200, 20)).astype(np.float32)
    first[::2, :alike] = 0
    second[::2, : max(0, alike - 20)] = 1
    first[7], second[7] = first[3], second[3]
    group = np.sort(random.permutation(200)[:150])
    rows = np.concatenate([first, second], axis=1)[group]
    expected = sorted(range(len(group)), key=lambda at: rows[at].tobytes())
    assert order_of_value(first, second, group=group).tolist() == expected


def test_the_order_of_value_does_not_tell_the_two_zeros_apart() -> None:
    assert order_of_value(np.array([[0.0], [-0.0], [0.0], [-0.0]], np.float32)).tolist() == [0, 1, 2, 3]
