"""The figures: what they draw, what they write, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from report_sample import ARMS, cost_table, summary_table
from winnow import figures
from winnow.errors import UserError
from winnow.figures import layout, pareto, style, units

NAMES = ("accuracy_vs_cost", "accuracy_vs_fraction", "pareto")
METHODS = {f"m{i}": {"label": f"method number {i}", "role": "method"} for i in range(11)}


def table(**options: Any) -> pd.DataFrame:
    summary = summary_table(**options)
    return layout.join_cost(summary, cost_table(summary))


def arms_of(name: str, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return pareto.overview_arms({"sas": arms}) if name == "pareto" else arms


def draw(
    name: str, rows: pd.DataFrame, arms: dict[str, dict[str, Any]] = ARMS
) -> tuple[Figure, pd.DataFrame]:
    return figures.draw(name, rows, arms_of(name, arms))


def test_every_module_with_draw_is_found_and_has_its_texts() -> None:
    assert figures.available() == sorted(NAMES)
    for name in NAMES:
        module = figures.load(name)
        assert module.TITLE and module.CAPTION.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_files_are_whole_and_equal_bytes_twice(name: str, tmp_path: Path) -> None:
    written = []
    for attempt in ("first", "second"):
        drawn, rows = draw(name, table())
        paths = style.save(drawn, rows, tmp_path / attempt / name)
        assert sorted(path.name for path in (tmp_path / attempt).iterdir()) == sorted(
            path.name for path in paths.values()
        )
        written.append({kind: path.read_bytes() for kind, path in paths.items()})
    assert written[0] == written[1]
    assert written[0]["pdf"].startswith(b"%PDF") and b"/FontFile2" in written[0]["pdf"]
    assert b"CreationDate" not in written[0]["pdf"]
    with Image.open(tmp_path / "first" / f"{name}.png") as image:
        assert image.info["dpi"][0] == pytest.approx(style.PNG_DPI, abs=0.1)


def test_style_does_not_follow_the_users_settings(tmp_path: Path) -> None:
    drawn, rows = draw("accuracy_vs_fraction", table())
    plain = style.save(drawn, rows, tmp_path / "a")["png"].read_bytes()
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "pdf.fonttype": 3}):
        drawn, rows = draw("accuracy_vs_fraction", table())
        assert style.save(drawn, rows, tmp_path / "b")["png"].read_bytes() == plain
        assert mpl.rcParams["font.size"] == 20


@pytest.mark.parametrize("name", NAMES)
def test_csv_holds_exactly_the_rows_drawn(name: str, tmp_path: Path) -> None:
    data = table()
    drawn, rows = draw(name, data)
    read = pd.read_csv(style.save(drawn, rows, tmp_path / name)["csv"])
    expected = data[data["metric"] == "test_accuracy"]
    assert len(read) == len(expected)
    np.testing.assert_allclose(np.sort(read["mean"]), np.sort(expected["mean"]), rtol=1e-9)
    assert set(read["label"]) == {arm["label"] for arm in ARMS.values()}
    assert not read["n_seeds"].isna().any()


def test_curves_in_the_axes_equal_the_csv() -> None:
    drawn, rows = draw("accuracy_vs_fraction", table(datasets=("digits",)))
    axis = next(axis for axis in drawn.axes if axis.get_title(loc="left") == "digits, equal epochs")
    color = style.arm_styles(ARMS)["sas_paper"].color
    line = next(line for line in axis.lines if to_hex(line.get_color()).upper() == color)
    mine = rows[(rows["arm"] == "sas_paper") & (rows["length"] == "epochs")].sort_values("fraction")
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), 100 * mine["mean"])
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), mine["fraction"], atol=0.02)


def test_full_data_is_a_level_with_its_band_in_every_panel() -> None:
    data = table(datasets=("digits",))
    drawn, _ = draw("accuracy_vs_fraction", data)
    full = data[(data["arm"] == "full") & (data["metric"] == "test_accuracy")].iloc[0]
    assert [axis.get_title(loc="left") for axis in drawn.axes] == [
        "digits, equal epochs",
        "digits, equal steps",
    ]
    for axis in drawn.axes:
        levels = [np.asarray(line.get_ydata(), float) for line in axis.lines if line.get_color() == "#000000"]
        assert any(np.allclose(level, 100 * full["mean"]) for level in levels)
        bands = [patch.get_extents().transformed(axis.transData.inverted()) for patch in axis.patches]
        assert any(np.allclose([b.y0, b.y1], [100 * full["ci_low"], 100 * full["ci_high"]]) for b in bands)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_draws_no_interval(name: str, tmp_path: Path) -> None:
    drawn, rows = draw(name, table(n_seeds=1))
    assert rows["ci_low"].isna().all()
    assert style.save(drawn, rows, tmp_path / name)["png"].stat().st_size > 0
    for axis in drawn.axes:
        for bars in axis.containers:
            for segment in bars[2][0].get_segments():
                assert segment[0, 1] == segment[1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_many_arms_and_holes_leave_the_legend_off_the_data(name: str, tmp_path: Path) -> None:
    arms = {"full": ARMS["full"], "random": ARMS["random"], **METHODS}
    data = table(arms=arms, datasets=("a", "b", "c", "d"), fractions=(0.01, 0.1, 0.8))
    data = data[~((data["arm"] == "m3") & (data["fraction"] > 0.05))]
    drawn, rows = draw(name, data, arms)
    style.save(drawn, rows, tmp_path / name)
    legend = drawn.legends[0].get_window_extent()
    assert {text.get_text() for text in drawn.legends[0].get_texts()} >= {
        arm["label"] for arm in arms.values()
    }
    assert drawn.bbox.containsx(legend.x0) and drawn.bbox.containsx(legend.x1) and legend.y0 >= 0
    assert not any(legend.overlaps(axis.get_tightbbox() or legend) for axis in drawn.axes)


def test_one_length_alone() -> None:
    drawn, rows = figures.draw("accuracy_vs_fraction", table(), ARMS, length="steps")
    assert [axis.get_title(loc="left") for axis in drawn.axes] == [
        "digits, equal steps",
        "fashion_mnist, equal steps",
    ]
    assert set(rows.loc[rows["arm"] != "full", "length"]) == {"steps"}
    assert "full" in set(rows["arm"])


def test_front_equals_its_definition() -> None:
    noise = np.random.default_rng(3)
    for _ in range(50):
        cost, value = (
            noise.integers(0, 6, 12).astype(float),
            noise.integers(0, 6, 12).astype(float),
        )
        chosen = layout.front(cost, value)
        beaten = [
            any(
                (cost[j] <= cost[i] and value[j] > value[i]) or (cost[j] < cost[i] and value[j] >= value[i])
                for j in range(12)
            )
            for i in range(12)
        ]
        best = {(cost[i], value[i]) for i in range(12) if not beaten[i]}
        assert [(cost[i], value[i]) for i in chosen] == sorted(best)


def test_arms_differ_without_colour_and_keep_their_style() -> None:
    arms = {**ARMS, **METHODS}
    styles = style.arm_styles(arms)
    looks = {(s.color, s.marker, str(s.line), s.filled) for s in styles.values()}
    assert len(looks) == len(arms)
    first = [
        styles[arm]
        for arm in (
            "full",
            "random",
            "random_quota",
            "sas_paper",
            "sas_released",
            "sas_lowest",
        )
    ]
    assert len({(s.marker, s.filled) for s in first}) == len(first)
    assert all(not s.filled for s in first if s.role == "control")
    rows = table()
    rows = rows[rows["arm"] != "sas_paper"]
    drawn, _ = draw("accuracy_vs_fraction", rows)
    handles = dict(
        zip(
            (t.get_text() for t in drawn.legends[0].get_texts()),
            drawn.legends[0].get_lines(),
            strict=True,
        )
    )
    assert to_hex(str(handles["SAS (released)"].get_color())).upper() == styles["sas_released"].color


def test_mistakes_are_named() -> None:
    rows = table()
    with pytest.raises(UserError, match=r"unknown figure 'accuracy_vs_fractions'.*accuracy_vs_cost"):
        figures.load("accuracy_vs_fractions")
    with pytest.raises(UserError, match="unknown figure 'style'"):
        figures.load("style")
    with pytest.raises(UserError, match=r"unknown option 'metrics'.*length, metric"):
        figures.draw("accuracy_vs_fraction", rows, ARMS, metrics="x")
    with pytest.raises(UserError, match=r"unknown metric 'tset_accuracy'.*test_accuracy"):
        figures.draw("accuracy_vs_fraction", rows, ARMS, metric="tset_accuracy")
    with pytest.raises(UserError, match="unknown length 'epoch'"):
        figures.draw("accuracy_vs_cost", rows, ARMS, length="epoch")
    with pytest.raises(UserError, match="unknown cost 'watts'"):
        figures.draw("accuracy_vs_cost", rows, ARMS, cost="watts")
    with pytest.raises(UserError, match="unknown arm"):
        figures.draw("accuracy_vs_fraction", rows, {"full": ARMS["full"]})


def test_a_cell_without_cost_is_refused() -> None:
    summary = summary_table()
    cost = cost_table(summary).iloc[1:]
    with pytest.raises(UserError, match="no row for suite=sas, arm=full, dataset=digits"):
        layout.join_cost(summary, cost)


def test_overview_labels_name_the_suite_when_there_are_several() -> None:
    one = pareto.overview_arms({"sas": ARMS})
    two = pareto.overview_arms({"sas": ARMS, "other": {"random": ARMS["random"]}})
    assert one["sas/sas_paper"]["label"] == "SAS (paper)"
    assert two["other/random"]["label"] == "other: random"
    both = pd.concat([table(), table(suite="other", arms={"random": ARMS["random"]})])
    drawn, rows = figures.draw("pareto", both, two)
    assert set(rows["arm"]) == set(two)
    assert len(drawn.axes) == 2


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.measure(0.6123, "test_accuracy"), "61.2"),
        (units.interval(0.6123, 0.5983, 0.626, "test_accuracy"), "61.2 [59.8, 62.6]"),
        (units.interval(0.6123, float("nan"), float("nan"), "test_accuracy"), "61.2"),
        (units.measure(-0.031, "test_accuracy"), "\N{MINUS SIGN}3.1"),
        (units.measure(1.23456, "loss"), "1.23"),
        (units.percent(0.07), "7 %"),
        (units.percent(0.0025), "0.25 %"),
        (units.duration(0.4217), "0.42 s"),
        (units.duration(119), "119 s"),
        (units.duration(750), "12.5 min"),
        (units.duration(4 * 3600), "4.00 h"),
        (units.duration(3 * 86400), "3.00 d"),
        (units.duration(None), units.MISSING),
        (units.size(12_300_000), "12.3 MB"),
        (units.size(0), "0 B"),
        (units.number(123456.7), "123457"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected
