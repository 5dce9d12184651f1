"""Maps of embeddings, kept against dropped, zero-shot confusions, and how synthetic sets were learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from winnow.figures.style import METHOD_COLORS, PNG_DPI, styled

POINTS, CLASSES = 3000, 20
ACROSS = 3


def principal_axes(rows: np.ndarray, count: int = 2) -> np.ndarray:
    """Return rows (n, d) projected on the directions of largest variance, (n, count) float64."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ vectors[:, ::-1][:, :count])


@styled
def embedding_map(places: np.ndarray, kept: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw a panel per arm: all pairs pale, the kept ones dark.

    places: (n, 2). kept: label -> bool (n,). More than 3,000 pairs are thinned evenly.
    """
    shown = np.unique(np.linspace(0, len(places) - 1, POINTS).astype(int))
    figure, panels = _panels(len(kept), 2.4)
    for axis, (label, mask) in zip(panels, kept.items(), strict=True):
        inside = mask[shown]
        axis.scatter(*places[shown[~inside]].T, s=2, c="#D0D0D0", linewidths=0)
        axis.scatter(*places[shown[inside]].T, s=3, c=METHOD_COLORS[0], linewidths=0)
        axis.set_title(label)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
    figure.supxlabel("first principal axis of the image embeddings", fontsize=7.5)
    figure.supylabel("second", fontsize=7.5)
    figure.savefig(path, dpi=PNG_DPI, metadata={"Software": None})


@styled
def confusion_panels(counts: Mapping[str, np.ndarray], classes: Sequence[str], path: Path) -> None:
    """Draw a panel per arm: rows are true classes, columns predicted ones, shares of each row.

    counts: label -> (classes, classes). The most frequent 20 classes are shown; the rest count as columns
    only in the shares.
    """
    total = np.sum([matrix.sum(axis=1) for matrix in counts.values()], axis=0)
    frequent = np.sort(np.argsort(-total, kind="stable")[:CLASSES])
    names = [classes[i][:18] for i in frequent]
    figure, panels = _panels(len(counts), 3.2)
    for axis, (label, matrix) in zip(panels, counts.items(), strict=True):
        shares = matrix[frequent] / np.maximum(matrix[frequent].sum(axis=1, keepdims=True), 1)
        axis.imshow(shares[:, frequent], vmin=0, vmax=1, cmap="Blues")
        axis.set_title(label)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
        axis.set_yticks(range(len(names)), names, fontsize=5)
        axis.grid(visible=False)
    figure.supxlabel("predicted", fontsize=7.5)
    figure.supylabel("true", fontsize=7.5)
    figure.savefig(path, dpi=PNG_DPI, metadata={"Software": None})


@styled
def learning_curves(histories: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draw the loss of each distillation over its iterations, and the step size where one was learned.

    histories: label -> columns iteration, loss and perhaps step_size. Losses of different methods are in
    different units, so each has a panel; the pale line is the loss itself, the dark one its running mean.
    """
    figure, panels = _panels(len(histories), 2.4)
    for axis, (label, table) in zip(panels, histories.items(), strict=True):
        smooth = table["loss"].rolling(max(1, len(table) // 20), min_periods=1).mean()
        axis.plot(table["iteration"], table["loss"], c="#D0D0D0", linewidth=0.6)
        axis.plot(table["iteration"], smooth, c=METHOD_COLORS[0])
        axis.set_title(label)
        if "step_size" in table:
            other = axis.twinx()
            other.plot(table["iteration"], table["step_size"], c=METHOD_COLORS[1], linewidth=0.9)
            other.tick_params(axis="y", colors=METHOD_COLORS[1])
            other.grid(visible=False)
    figure.supxlabel("iteration", fontsize=7.5)
    figure.supylabel("loss (blue), step size (orange)", fontsize=7.5)
    figure.savefig(path, dpi=PNG_DPI, metadata={"Software": None})


def _panels(count: int, size: float) -> tuple[Figure, list[Any]]:
    across = min(count, ACROSS)
    down = -(-count // across)
    figure = Figure(figsize=(size * across, size * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).ravel())
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]
