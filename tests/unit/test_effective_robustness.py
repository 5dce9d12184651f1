"""The line of the baseline, and what lies above it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from winnow import figures
from winnow.errors import UserError

ARMS = {
    "full": {"label": "full", "role": "reference"},
    "tower": {"label": "supervised", "role": "control"},
    "clip": {"label": "CLIP", "role": "method"},
}


def table(gap: float = 0.8, seeds: int = 4, shares: tuple[float, ...] = (0.25, 0.5, 1.0)) -> pd.DataFrame:
    """Baseline on logit y = 0.9 logit x - 0.5 exactly; CLIP above it by `gap` on that axis."""
    rows = []
    for arm, lift in (("tower", 0.0), ("clip", gap)):
        for place, share in enumerate(shares):
            for seed in range(seeds):
                x = 0.6 + 0.1 * place + 0.01 * seed
                y = expit(0.9 * logit(x) - 0.5 + lift)
                cell = {
                    "suite": "s",
                    "arm": arm,
                    "dataset": "d",
                    "fraction": share,
                    "length": "epochs",
                    "seed": seed,
                }
                rows += [
                    cell | {"metric": m, "value": v}
                    for m, v in (("validation_accuracy", x), ("test_accuracy", y))
                ]
    return pd.DataFrame(rows)


def test_points_of_the_baseline_lie_on_its_line_and_others_above() -> None:
    _, rows = figures.draw("effective_robustness", table(), ARMS)
    tower, clip = (rows[rows["arm"] == arm] for arm in ("tower", "clip"))
    np.testing.assert_allclose(tower["effective_robustness"], 0, atol=1e-9)
    for _, row in clip.iterrows():
        x = 0.6 + 0.1 * [0.25, 0.5, 1.0].index(row["fraction"]) + 0.01 * np.arange(4)
        above = expit(0.9 * logit(x) + 0.3) - expit(0.9 * logit(x) - 0.5)
        assert row["effective_robustness"] == pytest.approx(above.mean())
        half = 3.182446305284263 * above.std(ddof=1) / 2
        assert row["effective_robustness_high"] - row["effective_robustness"] == pytest.approx(half)


def test_a_baseline_with_one_point_has_no_line() -> None:
    with pytest.raises(UserError, match="several shares"):
        figures.draw("effective_robustness", table(shares=(1.0,)), ARMS)


def test_one_seed_has_no_interval_and_grids_can_be_chosen() -> None:
    both = pd.concat([table(seeds=1), table(seeds=1).assign(dataset="e")])
    _, rows = figures.draw("effective_robustness", both, ARMS, grids=["e"])
    assert set(rows["dataset"]) == {"e"} and rows["shifted_low"].isna().all()
