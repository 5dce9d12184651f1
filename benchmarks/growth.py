"""How the cost of every selection method grows with n, d and budget: slopes of log-log fits, CSV and plot.

Each method runs in its first variant on made-up signals: n examples of 10 classes, rows of d numbers. One of
n, d and budget grows while the others stay at 2,000 examples, 64 numbers and 10 %. A point is the processor
time of one run; runs below 50 ms are repeated and the fastest counts.
A run longer than the cap is the last of its row. Slope 1 is linear, 2 quadratic; near 0 the quantity costs
nothing at these sizes. The budget is a share of n and grows with it: a method that takes n x budget steps has
slope 2 in n and 1 in the budget.

Examples:
  .venv/bin/python benchmarks/growth.py
  .venv/bin/python benchmarks/growth.py sas random --cap 5 --output /tmp/growth
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from winnow import registry
from winnow.errors import run_main, unknown
from winnow.figures.style import METHOD_COLORS, METHOD_MARKERS, PNG_DPI, styled
from winnow.select.engine.subset import View

CLASSES, EPOCHS, PROXIES = 10, 20, 3
BASE = {"n": 2000, "d": 64, "budget": 0.1}
GRID = {
    "n": (500, 1000, 2000, 4000, 8000),
    "d": (16, 32, 64, 128, 256),
    "budget": (0.05, 0.1, 0.2, 0.4),
}
REPEAT_S = 0.05


def made_up_view(n: int, d: int, fraction: float) -> View:
    """Return a pool with every signal that a method may need; classes are clusters of unit-norm rows."""
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=n)
    rows = random.normal(size=(CLASSES, d))[labels] + random.normal(size=(n, d))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    logits = random.normal(size=(n, CLASSES)).astype(np.float32)
    logits[np.arange(n), labels] += 2
    margins = random.normal(1, 2, size=(n, EPOCHS)).astype(np.float32)
    signals = {
        "embeddings": rows,
        "text_embeddings": (rows + random.normal(0, 0.1, size=rows.shape)).astype(np.float32),
        "latent_classes": labels,
        "label_similarity": random.uniform(size=n).astype(np.float32),
        "reducible_similarity": random.normal(size=n).astype(np.float32),
        "near_target": random.integers(2, size=n).astype(bool),
        "pair_facts": made_up_pair_facts(n, random),
        "features": rows * 4,
        "logits": logits,
        "heldout_logits": logits + random.normal(size=logits.shape).astype(np.float32),
        "loss_history": np.log1p(np.exp(-margins)),
        "expert_losses": np.log1p(np.exp(-margins)).mean(1),
        "margin_history": margins,
        "correct_history": (margins > 0).astype(np.uint8),
        "residual_norms": random.exponential(size=(n, PROXIES)).astype(np.float32),
        "gradient_norms": random.exponential(size=(n, PROXIES)).astype(np.float32),
        "adversarial_distances": random.exponential(size=n).astype(np.float32),
    }
    return View(n, labels, signals, fraction)


def made_up_pair_facts(n: int, random: np.random.Generator) -> np.ndarray:
    """Return words, characters, English, sizes and shape of n pairs, (n, 6) float32."""
    words, flags = random.integers(1, 12, size=n), random.integers(2, size=(n, 2))
    sizes, shapes = random.integers(100, 400, size=n), random.uniform(1, 4, size=n)
    return np.column_stack([words, 5 * words, flags, sizes, shapes]).astype(np.float32)


def seconds_of(method: registry.Plugin, n: int, d: int, fraction: float) -> float:
    """Return the processor seconds of one choice: of the fastest, where short ones are repeated."""
    view = made_up_view(n, d, fraction)
    params = method.params(**method.variants[method.default_variant])
    budget = n if method.resamples else round(fraction * n)
    runs: list[float] = []
    while sum(runs) < REPEAT_S:
        begun = time.process_time()
        method.function(view, budget, np.random.default_rng(0), params)
        runs.append(time.process_time() - begun)
    return min(runs)


def measure(method: registry.Plugin, cap: float) -> Iterator[dict[str, object]]:
    """Yield one row per point of the method, after a run that loads and compiles what it needs."""
    seconds_of(method, 200, BASE["d"], BASE["budget"])
    for axis, values in GRID.items():
        if axis == "budget" and method.resamples:
            continue
        for value in values:
            point = BASE | {axis: value}
            seconds = seconds_of(method, int(point["n"]), int(point["d"]), point["budget"])
            yield {"method": method.name, "axis": axis, **point, "seconds": seconds}
            if seconds > cap:
                break


def slope(points: pd.DataFrame, axis: str) -> float:
    """Return the slope of log seconds against the log of the axis; NaN below 3 points."""
    if len(points) < 3:
        return float("nan")
    return float(np.polyfit(np.log(points[axis].astype(float)), np.log(points["seconds"]), 1)[0])


def slopes(points: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method: its slope in n, d and budget, and the seconds of its largest n."""
    rows = {}
    for method, own in points.groupby("method"):
        found = {axis: slope(own[own["axis"] == axis], axis) for axis in GRID}
        largest = own[own["axis"] == "n"].iloc[-1]
        rows[method] = found | {"largest n": largest["n"], "seconds there": largest["seconds"]}
    return pd.DataFrame.from_dict(rows, orient="index")


@styled
def plot(points: pd.DataFrame) -> Figure:
    """Return one small panel per method: seconds against how many times the smallest value."""
    methods, columns = sorted(points["method"].unique()), 5
    lines = -(-len(methods) // columns)
    figure = Figure(
        figsize=(2.05 * min(columns, len(methods)) + 0.4, 1.75 * lines + 0.9), layout="constrained"
    )
    axes = figure.subplots(lines, min(columns, len(methods)), sharex=True, sharey=True, squeeze=False).ravel()
    for method, panel in zip(methods, axes, strict=False):
        own = points[points["method"] == method]
        panel.set_title(method)
        panel.set(xscale="log", yscale="log")
        for axis, color, marker in zip(GRID, METHOD_COLORS, METHOD_MARKERS, strict=False):
            row = own[own["axis"] == axis]
            times = row[axis] / GRID[axis][0]
            panel.plot(times, row["seconds"], color=color, marker=marker, markersize=3.5, linewidth=1.1)
        found = slopes(own).loc[method, list(GRID)].astype(float).round(1) + 0.0
        panel.set_xlabel("  ".join(f"{axis} {value:g}" for axis, value in found.items()).replace("nan", "-"))
        panel.tick_params(labelbottom=True)
        panel.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        panel.xaxis.set_minor_locator(NullLocator())
    for panel in axes[len(methods) :]:
        panel.set_visible(False)
    figure.supxlabel("times the smallest value, and the slopes", fontsize=8)
    figure.supylabel("processor seconds", fontsize=8)
    handles = [
        Line2D([], [], color=color, marker=marker, label=f"{axis} from {values[0]:g} to {values[-1]:g}")
        for (axis, values), color, marker in zip(GRID.items(), METHOD_COLORS, METHOD_MARKERS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = registry.names("select")
    parser.add_argument("method", nargs="*", help="default: all selection methods")
    parser.add_argument(
        "--cap", type=float, default=20.0, help="processor seconds after which a row stops growing"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results"), help="folder of the CSV and plot"
    )
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in arguments.method or known:
        if name not in known:
            raise unknown("method", name, known, "benchmarks/growth.py")
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += measure(registry.load("select", name, "benchmarks/growth.py"), arguments.cap)
    points = pd.DataFrame(rows)
    shown = {"seconds there": "{:.2g}".format}
    print(slopes(points).to_string(float_format="{:.2f}".format, formatters=shown, na_rep="-"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    points.to_csv(arguments.output / "growth.csv", index=False, float_format="%.4g", lineterminator="\n")
    styled(plot(points).savefig)(arguments.output / "growth.png", dpi=PNG_DPI)


if __name__ == "__main__":
    run_main(main)
