"""The line of the baseline with its band, what lies above it, and where it is extrapolated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from scipy.special import expit, logit

from winnow import figures
from winnow.errors import UserError

ARMS = {
    "full": {"label": "full", "role": "reference"},
    "tower": {"label": "supervised", "role": "control"},
    "clip": {"label": "CLIP", "role": "method"},
}


def cell(arm: str, share: float, seed: int, plain: float, shifted: float) -> list[dict[str, Any]]:
    """Return the rows of one training: its accuracy without the shift and with it."""
    found = {"suite": "s", "arm": arm, "dataset": "d", "fraction": share, "length": "epochs", "seed": seed}
    values = (("validation_accuracy", plain), ("test_accuracy", shifted))
    return [found | {"metric": metric, "value": value} for metric, value in values]


def table(gap: float = 0.8, seeds: int = 4, shares: tuple[float, ...] = (0.25, 0.5, 1.0)) -> pd.DataFrame:
    """Baseline on logit y = 0.9 logit x - 0.5 exactly; CLIP above it by `gap` on that axis."""
    rows = []
    for arm, lift in (("tower", 0.0), ("clip", gap)):
        for place, share in enumerate(shares):
            for seed in range(seeds):
                x = 0.6 + 0.1 * place + 0.01 * seed
                y = expit(0.9 * logit(x) - 0.5 + lift)
                rows += cell(arm, share, seed, x, y)
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


def noisy(shares: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0), seeds: int = 5) -> pd.DataFrame:
    """Baseline and CLIP on lines that differ by seed, with noise; CLIP is beyond the baseline."""
    random, rows = np.random.default_rng(3), []
    for arm, first, step, lift in (("tower", 0.0, 0.4, 0.0), ("clip", -0.5, 0.6, 0.5)):
        for place, share in enumerate(shares):
            for seed in range(seeds):
                x = first + step * place + random.normal(0, 0.05)
                y = (0.8 + 0.05 * seed) * x - 0.5 + lift + random.normal(0, 0.1)
                rows += cell(arm, share, seed, expit(x), expit(y))
    return pd.DataFrame(rows)


def points(frame: pd.DataFrame, arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    own = frame[(frame["arm"] == arm) & (frame["seed"] == seed)]
    return tuple(  # type: ignore[return-value]
        own[own["metric"] == metric].sort_values("fraction")["value"].to_numpy()
        for metric in ("validation_accuracy", "test_accuracy")
    )


def test_values_and_the_drawn_line_are_of_the_same_fits() -> None:
    frame = noisy()
    _, rows = figures.draw("effective_robustness", frame, ARMS)
    fits = [np.polyfit(*(logit(v) for v in points(frame, "tower", seed)), 1) for seed in range(5)]
    for arm, own in rows.groupby("arm"):
        above = []
        for seed, fit in enumerate(fits):
            x, y = points(frame, str(arm), seed)
            above.append(y - expit(np.polyval(fit, logit(x))))
        ordered = own.sort_values("fraction")
        np.testing.assert_allclose(ordered["effective_robustness"], np.mean(above, axis=0))
        heights = np.stack([np.polyval(fit, logit(ordered["plain"])) for fit in fits])
        half = 2.7764451051977987 * heights.std(axis=0, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(ordered["line"], expit(heights.mean(axis=0)))
        np.testing.assert_allclose(ordered["line_low"], expit(heights.mean(axis=0) - half))
        np.testing.assert_allclose(ordered["line_high"], expit(heights.mean(axis=0) + half))


def test_points_outside_of_the_baselines_are_open_and_the_line_there_is_dotted() -> None:
    figure, rows = figures.draw("effective_robustness", noisy(), ARMS)
    low, high = rows[rows["arm"] == "tower"]["plain"].agg(["min", "max"])
    assert not rows[rows["arm"] == "tower"]["extrapolated"].any()
    clip = rows[rows["arm"] == "clip"]
    outside = (clip["plain"] < low) | (clip["plain"] > high)
    assert outside.tolist() == clip["extrapolated"].tolist() and 0 < outside.sum() < len(clip)
    markers = {}
    for line in figure.axes[0].get_lines():
        if line.get_marker() not in ("None", "none", "", "_", "|"):
            is_open = to_rgba(line.get_markerfacecolor()) == to_rgba("white")
            markers[len(line.get_xdata()), line.get_marker()] = is_open
    assert sorted(markers.values()) == [False, False, True], "tower, CLIP inside, CLIP outside"
    solid = [
        line
        for line in figure.axes[0].get_lines()
        if line.get_linestyle() == "-" and len(line.get_xdata()) > 9
    ]
    shown = solid[0].get_xdata()[np.isfinite(solid[0].get_ydata())]
    assert len(solid) == 1 and low <= shown.min() and shown.max() <= high


def test_the_band_is_drawn_around_the_line() -> None:
    figure, _ = figures.draw("effective_robustness", noisy(), ARMS)
    (band,) = (found for found in figure.axes[0].collections if isinstance(found, PolyCollection))
    heights = band.get_paths()[0].vertices[:, 1]
    assert np.isfinite(heights).all() and np.ptp(heights) > 0
    _, alone = figures.draw("effective_robustness", noisy(seeds=1), ARMS)
    assert alone["line"].notna().all() and alone[["line_low", "line_high"]].isna().all(axis=None)


def test_a_baseline_with_one_point_has_no_line() -> None:
    with pytest.raises(UserError, match="several shares"):
        figures.draw("effective_robustness", table(shares=(1.0,)), ARMS)


def test_one_seed_has_no_interval_and_grids_can_be_chosen() -> None:
    both = pd.concat([table(seeds=1), table(seeds=1).assign(dataset="e")])
    _, rows = figures.draw("effective_robustness", both, ARMS, grids=["e"])
    assert set(rows["dataset"]) == {"e"} and rows["shifted_low"].isna().all()
