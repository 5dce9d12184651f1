"""The figures: what they draw, what they write, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from evidence_table import rows as seeds_of
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from report_sample import ARMS, cost_table, summary_table
from winnow import figures
from winnow.errors import UserError
from winnow.evidence.paired import compare, mean_interval, summary
from winnow.figures import layout, pareto, style, units
from winnow.plan.code import ROOT
from winnow.tables import write_table

NAMES = ("accuracy_vs_cost", "accuracy_vs_fraction", "pareto")
METHODS = {f"m{i}": {"label": f"method number {i}", "role": "method"} for i in range(11)}


OVER_SEEDS = ("differences", "effective_robustness", "method_table", "power_law")
SIZES = (500, 1000, 2000)


def values_table(
    datasets: tuple[str, ...] = ("digits",),
    fractions: tuple[float, ...] = (0.2, 0.4),
    arms: dict[str, dict[str, Any]] = ARMS,
    n_seeds: int = 4,
) -> pd.DataFrame:
    """Return accuracies per seed whose error is about n^-0.3; a dataset's size is the end of its name."""
    noise = np.random.default_rng(11)
    rows = []
    for dataset in datasets:
        size = int(dataset.rpartition("_")[2]) if "_" in dataset else 1000
        for place, (arm, about) in enumerate(arms.items()):
            reference = about["role"] == "reference"
            for fraction in (1.0,) if reference else fractions:
                budget = int(fraction * size)
                error = (1.5 + 0.02 * place) * budget**-0.3 * np.exp(noise.normal(0, 0.02, n_seeds))
                rows += seeds_of(arm, 1 - error, dataset=dataset, fraction=fraction, budget=budget)
    return pd.DataFrame(rows)


GRIDS = tuple(f"digits_{size}" for size in SIZES)


def detection_table() -> pd.DataFrame:
    """Return the summary of a noise suite: a curve for two arms, and a third without a ranking."""
    rows = []
    for arm, height in (("sas_paper", 0.9), ("sas_lowest", 0.5)):
        for fraction in (0.6, 0.8):
            for recall in np.arange(1, 10) / 10:
                values = height - 0.3 * recall + np.array([-0.01, 0, 0.01])
                metric = f"noise_precision_at_recall_{recall:.1f}"
                rows += seeds_of(arm, values, metric=metric, fraction=fraction)
            rows += seeds_of(arm, [height - 0.2] * 3, metric="noise_average_precision", fraction=fraction)
            rows += seeds_of(arm, [0.3] * 3, metric="noise_share", fraction=fraction)
    rows += seeds_of("random", [0.3] * 3, metric="noise_share")
    return summary(pd.DataFrame(rows))


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
    assert figures.available() == sorted(
        [*NAMES, *OVER_SEEDS, "along_grids", "by_weight", "detection", "side_by_side"]
    )
    for name in figures.available():
        module = figures.load(name)
        assert module.TITLE and module.CAPTION.endswith(".")
        assert ("values" if name in OVER_SEEDS else "summary") == module.TABLE


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


@pytest.mark.parametrize("name", NAMES)
def test_only_some_arms_in_the_look_they_have_among_all(name: str) -> None:
    chosen = [arm for arm in arms_of(name, ARMS) if arm.endswith(("full", "sas_released"))]
    drawn, rows = figures.draw(name, table(), arms_of(name, ARMS), only=chosen)
    assert set(rows["arm"]) == set(chosen)
    line = {
        text.get_text(): line
        for text, line in zip(drawn.legends[0].get_texts(), drawn.legends[0].get_lines(), strict=True)
    }["SAS (released)"]
    assert to_hex(str(line.get_color())).upper() == style.arm_styles(ARMS)["sas_released"].color
    with pytest.raises(UserError, match="unknown arm 'sas_papers'"):
        figures.draw(name, table(), arms_of(name, ARMS), only=["sas_papers"])


def test_shares_from_half_a_percent_have_legible_ticks() -> None:
    shares = (0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
    arms = {"full": ARMS["full"], "random": ARMS["random"], **{f"m{i}": METHODS["m1"] for i in range(25)}}
    drawn, _ = draw("accuracy_vs_fraction", table(arms=arms, fractions=shares, datasets=("a",)), arms)
    drawn.draw_without_rendering()
    axis = drawn.axes[0]
    labels = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.5", "1", "5", "10", "20", "30", "50"]
    assert not any(a.overlaps(b) for a, b in pairwise(labels))
    for line in axis.lines:
        x = np.asarray(line.get_xdata(), float)
        if len(x) == len(shares):  # an arm set apart stays nearer to its own share than to any other
            assert (np.abs(np.log(x[:, None] / np.array(shares))).argmin(axis=1) == np.arange(7)).all()


def test_names_are_ordered_by_the_numbers_in_them() -> None:
    names = ["b_2", "digits_1000", "a_10", "digits_500", "a_9"]
    assert sorted(names, key=layout.natural) == ["a_9", "a_10", "b_2", "digits_500", "digits_1000"]


def test_table_shows_means_with_intervals_and_colours_by_the_paired_difference() -> None:
    values = values_table()
    values = values[~((values["arm"] == "sas_lowest") & (values["fraction"] == 0.4))]
    drawn, rows = figures.draw("method_table", values, ARMS, baseline="random")
    at = rows.set_index(["arm", "fraction"])
    a, b = (
        values.query(f"arm == '{arm}' and fraction == 0.2").set_index("seed")["value"]
        for arm in ("sas_paper", "random")
    )
    expected = compare(a, b, margin=0, alternative="greater")
    cell = at.loc[("sas_paper", 0.2)]
    assert tuple(cell[["difference", "low", "high"]]) == (expected.effect, expected.ci_low, expected.ci_high)
    found = mean_interval(a.to_numpy())
    shown = {text.get_text(): text for text in drawn.axes[0].texts}
    text = shown[f"{100 * a.mean():.1f} ± {50 * (found.high - found.low):.1f}"]
    assert text.get_fontweight() == "bold" and text.get_position() == (0, 3)
    assert np.isnan(at.loc[("random", 0.2), "difference"]) and np.isnan(at.loc[("full", 1.0), "difference"])
    assert len(drawn.axes[0].collections) == 2 * 4 - 1, "a missing cell and the baseline have no colour"
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == [
        about["label"] for about in ARMS.values()
    ]
    assert any(text.startswith("all examples: ") for text in shown)


def test_table_of_one_seed_has_means_alone() -> None:
    drawn, _ = figures.draw("method_table", values_table(n_seeds=1), ARMS)
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert len(texts) == 11 and not any("±" in text for text in texts)
    assert not any(text.get_fontweight() == "bold" for text in drawn.axes[0].texts)


def test_large_table_stays_inside_its_figure_and_no_cell_touches_the_next() -> None:
    arms = {"full": ARMS["full"], "random": ARMS["random"]}
    arms |= {f"m{i}": {"label": f"method {i} (released)", "role": "method"} for i in range(28)}
    values = values_table(("cifar", "fashion"), (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9), arms, n_seeds=2)
    drawn, _ = figures.draw("method_table", values, arms)
    drawn.draw_without_rendering()
    assert len(drawn.axes) == 3, "two blocks and the colour scale"
    for axis in drawn.axes:
        box = axis.get_tightbbox()
        assert box is not None
        assert drawn.bbox.x0 <= box.x0 and box.x1 <= drawn.bbox.x1 + 1
        assert drawn.bbox.y0 <= box.y0 and box.y1 <= drawn.bbox.y1
        lines: dict[float, list[Any]] = {}
        for text in axis.texts:
            lines.setdefault(text.get_position()[1], []).append(text.get_window_extent())
        for boxes in lines.values():
            assert not any(a.overlaps(b) for a, b in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_differences_are_drawn_where_they_lie() -> None:
    values = values_table()
    drawn, rows = figures.draw(
        "differences", values, ARMS, baseline="random", only=["sas_paper", "sas_lowest"]
    )
    assert set(rows["arm"]) == {"sas_paper", "sas_lowest"} and len(rows) == 4
    drawn_at = sorted(
        float(line.get_xdata()[0]) for line in drawn.axes[0].lines if line.get_marker() != "None"
    )
    np.testing.assert_allclose(drawn_at, np.sort(100 * rows["difference"]))
    assert drawn.axes[0].get_xlabel() == "test accuracy minus random (points)"
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == {"20 % kept", "40 % kept"}


def test_differences_to_full_data_at_every_share() -> None:
    _, rows = figures.draw("differences", values_table(), ARMS, baseline="full")
    assert set(rows["fraction"]) == {0.2, 0.4} and (rows["difference"] < 0).all()


def test_power_law_of_each_arm_over_grids_of_one_dataset() -> None:
    drawn, rows = figures.draw("power_law", values_table(GRIDS), ARMS)
    assert [axis.get_title(loc="left") for axis in drawn.axes] == [
        "digits, 20 %, equal epochs",
        "digits, 40 %, equal epochs",
        "digits, equal epochs: b",
    ]
    assert (rows["exponent"] - 0.3).abs().max() < 0.05
    assert ((rows["exponent_low"] < rows["exponent"]) & (rows["exponent"] < rows["exponent_high"])).all()
    assert set(rows["budget"]) == {100, 200, 400, 800, *SIZES}
    one = rows[(rows["arm"] == "sas_paper") & (rows["panel"] == "digits, 20 %, equal epochs")].iloc[0]
    curves = [np.asarray(line.get_ydata(), float) for line in drawn.axes[0].lines]
    law = 100 * one["scale"] * np.geomspace(100, 400, 50) ** -one["exponent"]
    assert any(len(curve) == 50 and np.allclose(curve, law) for curve in curves)


def test_power_law_over_the_shares_of_one_grid() -> None:
    drawn, rows = figures.draw("power_law", values_table(fractions=(0.1, 0.3, 0.9)), ARMS, along="share")
    assert [axis.get_title(loc="left") for axis in drawn.axes] == [
        "digits, equal epochs",
        "digits, equal epochs: b",
    ]
    partial = rows[rows["arm"] != "full"]
    assert (partial["exponent"] - 0.3).abs().max() < 0.05
    assert rows.loc[rows["arm"] == "full", "exponent"].isna().all(), "one size has no law"


def test_detection_draws_curves_and_averages_of_rankings() -> None:
    drawn, rows = figures.draw("detection", detection_table(), ARMS)
    assert set(rows["arm"]) == {"sas_paper", "sas_lowest"} and set(rows["fraction"]) == {0.8}
    curve, average = drawn.axes
    recall, precision = (
        np.asarray(data, float)
        for data in next(line for line in curve.lines if len(line.get_xdata()) == 9).get_data()
    )
    np.testing.assert_allclose(recall, np.arange(10, 100, 10))
    np.testing.assert_allclose(precision, 90 - 0.3 * recall)
    assert [label.get_text() for label in average.get_yticklabels()] == ["SAS (paper)", "lowest row sum"]
    assert any(np.allclose(np.asarray(line.get_ydata(), float), 30) for line in curve.lines), "base rate"
    _, other = figures.draw("detection", detection_table(), ARMS, fraction=0.6)
    assert set(other["fraction"]) == {0.6}


def test_figures_over_seeds_name_mistakes() -> None:
    values = values_table()
    with pytest.raises(UserError, match="unknown baseline 'randm'"):
        figures.draw("method_table", values, ARMS, baseline="randm")
    with pytest.raises(UserError, match="unknown metric 'accuracy'"):
        figures.draw("differences", values, ARMS, metric="accuracy")
    with pytest.raises(UserError, match=r"along: 'seed' is not accepted\. Accepted: pool, share"):
        figures.draw("power_law", values, ARMS, along="seed")
    with pytest.raises(UserError, match=r"unknown fraction '0\.7'"):
        figures.draw("detection", detection_table(), ARMS, fraction=0.7)
    with pytest.raises(UserError, match=r"paired by seed.*3"):
        lone = values[~((values["arm"] == "sas_paper") & (values["seed"] == 3))]
        figures.draw("differences", lone, ARMS, baseline="random")


@pytest.mark.parametrize("name", ["method_table", "power_law"])
def test_figures_over_seeds_give_equal_bytes_twice(name: str, tmp_path: Path) -> None:
    written = [
        style.save(*figures.draw(name, values_table(GRIDS), ARMS), tmp_path / part / name)
        for part in ("a", "b")
    ]
    for kind in ("pdf", "png", "csv"):
        assert written[0][kind].read_bytes() == written[1][kind].read_bytes()


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


def test_the_script_says_which_suite_asks_for_what_is_not_there(tmp_path: Path) -> None:
    write_table(tmp_path / "values.parquet", values_table())
    spec = {"figure": "differences", "options": {"metric": "recall"}, "arms": list(ARMS.items())}
    words = [f"--{name}={tmp_path / 'values.parquet'}" for name in ("metrics", "summary", "cost", "output")]
    words += ["--spec", json.dumps(spec | {"where": "suites/mine.yaml: figures: gains"})]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/figures.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "suites/mine.yaml: figures: gains: figure: unknown metric 'recall'" in done.stderr


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
