"""The linear probe: right optimum, no peeking, splits that do what they say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from winnow.evaluate.engine.view import EvaluationView
from winnow.evaluate.linear_probe import LinearProbeParams, evaluate, standardise, stratified_split
from winnow.models.engine import logistic
from winnow.models.engine.logistic import fit_logistic, predict


def blobs(n: int = 300, d: int = 5, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, d))
    return centres[labels] + random.normal(size=(n, d)), labels


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_optimum_equals_scikit_learns(penalty: float) -> None:
    x, y = blobs()
    ours = fit_logistic(x, y, 4, penalty, 2000)
    theirs = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=5000).fit(x, y)
    probability = np.exp(x @ ours[:-1] + ours[-1])
    probability /= probability.sum(axis=1, keepdims=True)
    assert np.abs(probability - theirs.predict_proba(x)).max() < 2e-3
    assert (predict(x, ours) == theirs.predict(x)).all()


def test_gradient_equals_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def keep(objective, start, **_):  # type: ignore[no-untyped-def]
        seen["objective"], seen["start"] = objective, start
        return type("Result", (), {"x": start})

    monkeypatch.setattr(logistic, "minimize", keep)
    x, y = blobs(40, 3, 3)
    fit_logistic(x, y, 3, 0.1, 1)
    point = np.random.default_rng(0).normal(size=seen["start"].shape)
    error = check_grad(lambda w: seen["objective"](w)[0], lambda w: seen["objective"](w)[1], point)
    assert error < 1e-5


def view(seed: int = 0, **changes: np.ndarray) -> EvaluationView:
    train, labels = blobs(seed=1)
    test, test_labels = blobs(200, seed=2)
    known = {"train": labels, "test": changes.get("test_labels", test_labels)}
    data = SimpleNamespace(labels=known.__getitem__, classes=tuple("abcd"))
    encode = {"train": train, "test": test}.__getitem__
    return EvaluationView(data, Path, np.random.default_rng(seed), encode, encode, encode, encode, encode)  # type: ignore[arg-type]


def test_test_labels_choose_nothing() -> None:
    params = LinearProbeParams()
    honest = evaluate(params, view())
    shuffled = evaluate(params, view(test_labels=np.random.default_rng(5).integers(4, size=200)))
    assert honest["validation_accuracy"] == shuffled["validation_accuracy"]
    assert honest["probe_penalty"] == shuffled["probe_penalty"]
    assert shuffled["test_accuracy"][0] < 0.4 < honest["test_accuracy"][0]


def test_few_labels_use_that_share_of_each_class() -> None:
    few = evaluate(LinearProbeParams(label_share=0.1, validation=0.2), view())
    assert few["validation_accuracy"][1] == 8
    assert few["test_accuracy"][1] == 200


def test_the_same_repetition_has_the_same_split() -> None:
    labels = np.arange(100) % 7
    first, rest = stratified_split(labels, 0.2, np.random.default_rng(3))
    again, _ = stratified_split(labels, 0.2, np.random.default_rng(3))
    assert (first == again).all()
    assert sorted([*first, *rest]) == list(range(100))
    assert (np.bincount(labels[first], minlength=7) >= 2).all()


def test_standardise_uses_the_training_part_alone_and_survives_constants() -> None:
    train, test = np.array([[1.0, 5], [3, 5]]), np.array([[5.0, 6]])
    a, b = standardise(train, test)
    assert a.tolist() == [[-1, 0], [1, 0]]
    assert b.tolist() == [[3, 1]]
