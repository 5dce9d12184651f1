"""EL2N and GraNd: means over proxies, the end that is kept, the released scale."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.select import el2n, grand
from winnow.select.engine.gradients import Factors, residuals
from winnow.select.engine.subset import Subset, View

METHODS = {
    "residual_norms": (el2n.select, el2n.EL2NParams),
    "gradient_norms": (grand.select, grand.GraNdParams),
}
BOTH = pytest.mark.parametrize("signal", list(METHODS))


def run(
    signal: str, norms: np.ndarray, budget: int | None, labels: np.ndarray | None = None, **params: object
) -> Subset:
    select, params_class = METHODS[signal]
    classes = np.zeros(len(norms), np.int64) if labels is None else labels
    view = View(len(norms), classes, {signal: norms.astype(np.float32)})
    return select(view, budget, np.random.default_rng(0), params_class(**params))  # type: ignore[operator]


@BOTH
def test_largest_mean_over_proxies_first_and_ties_by_position(signal: str) -> None:
    norms = np.array([[1.0, 1], [0, 4], [3, 0], [2, 2], [1, 0]])
    chosen = run(signal, norms, 4)
    assert chosen.index.tolist() == [1, 3, 2, 0]
    assert chosen.score is not None and chosen.score.values == pytest.approx([1, 2, 1.5, 2, 0.5])
    assert run(signal, norms, 2, keep="low").index.tolist() == [4, 0]


@BOTH
def test_quotas_keep_the_share_of_every_class(signal: str) -> None:
    norms = np.arange(30.0)[:, None]
    labels = np.repeat([0, 1], [20, 10])
    assert np.bincount(labels[run(signal, norms, 9, labels, quotas="labels").index]).tolist() == [6, 3]
    assert (labels[run(signal, norms, 9, labels).index] == 1).all()


def test_needs_ask_for_as_many_proxies_as_the_parameter_says() -> None:
    assert el2n.needs(el2n.EL2NParams(proxies=3)) == {"residual_norms": {"proxies": 3}}
    assert grand.needs(grand.GraNdParams(proxies=10)) == {"gradient_norms": {"proxies": 10}}
    assert grand.needs(grand.GraNdParams()) == {"gradient_norms": {}}


def test_released_grand_prefers_the_last_partial_batch() -> None:
    norms = np.random.default_rng(0).uniform(1, 2, size=(136, 10))
    released = run("gradient_norms", norms, 14, mean_loss_batch=128).index
    assert (released >= 128).sum() == 8
    assert (run("gradient_norms", norms, 14).index >= 128).sum() < 4


def test_grand_is_el2n_times_the_feature_norm() -> None:
    random = np.random.default_rng(0)
    factors = Factors(
        residuals(random.normal(size=(9, 3)), random.integers(3, size=9)), random.normal(size=(9, 4))
    )
    el2n_norms = np.linalg.norm(factors.residual, axis=1)
    lengths = np.sqrt(1 + (factors.features**2).sum(axis=1))
    assert factors.norms() == pytest.approx(el2n_norms * lengths)
