"""DeepFool selection: smallest perturbation first."""

from __future__ import annotations

import numpy as np

from winnow.select.deepfool import DeepFoolParams, select
from winnow.select.engine.subset import View

DISTANCES = np.array([0.5, 0.1, 0.9, 0.1, 0.0, 0.7], np.float32)
LABELS = np.array([0, 1, 0, 1, 1, 0])


def choose(budget: int | None, **params: object) -> list[int]:
    view = View(6, LABELS, {"adversarial_distances": DISTANCES})
    order = select(view, budget, np.random.default_rng(0), DeepFoolParams(**params)).index  # type: ignore[arg-type]
    return list(order)


def test_smallest_distance_first_and_ties_by_position() -> None:
    assert choose(None) == [4, 1, 3, 0, 5, 2]


def test_the_squared_norm_of_the_released_code_gives_the_same_order() -> None:
    assert choose(None) == np.argsort(DISTANCES**2, kind="stable").tolist()


def test_quotas_alternate_between_equal_classes() -> None:
    assert choose(4, quotas="labels") == [0, 4, 5, 1]
