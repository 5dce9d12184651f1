"""How well a selection tells wrong labels from right ones, against the true clean labels.

Of image-caption pairs, wrong is a caption that was moved from another image.

The examples are ranked from the most to the least suspicious: by the method's score, from the end that it
does not keep, or by the reverse of its order where it has none (a random order finds wrong labels at their
base rate). Equal scores count as one threshold. Methods never see the clean labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.data.dataset import Dataset
    from winnow.evaluate.engine.view import EvaluationView
    from winnow.plan.catalogue import DatasetEntry

RECALLS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def needs(_: Params) -> Signals:
    return {"selection": {}, "known_noise": {}}


def metrics(params: Params, entry: DatasetEntry, transfer: Mapping[str, DatasetEntry]) -> set[str]:
    """Return the names of what is measured: all of a full ranking, the two shares of any subset."""
    ranking = {"average_precision", "roc_auc", "precision_at_true_count", "recall_at_true_count"}
    ranking |= {f"precision_at_recall_{recall}" for recall in RECALLS}
    return {"noise_share", "noise_share_kept"} | {f"noise_{name}" for name in ranking}


@plugin(needs=needs, metrics=metrics, source="Pleiss et al. 2020, arXiv 2001.10528, section 4")
def evaluate(params: Params, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return the share of wrong labels in pool and subset and, for full rankings, precision and recall."""
    import pandas as pd

    if view.data.pool != ("train",):
        raise UserError("noise_detection: what is wrong is known for the training split; set pool: [train]")
    wrong = _wrong(view.data)
    index = pd.read_parquet(view.read("subset.parquet"), columns=["index"])["index"].to_numpy()
    kept = index[: view.budget]
    found = {
        "noise_share": (float(wrong.mean()), len(wrong)),
        "noise_share_kept": (float(wrong[kept].mean()), len(kept)),
    }
    suspicion = _suspicion(view, index, len(wrong))
    if suspicion is not None and 0 < wrong.sum() < len(wrong):
        found |= {f"noise_{name}": (value, len(wrong)) for name, value in detection(suspicion, wrong).items()}
    return found


def _wrong(data: Dataset) -> np.ndarray:
    if data.kind == "pairs":
        return np.asarray(data.swapped("train"))
    return np.asarray(data.labels("train") != data.clean_labels("train"))


def _suspicion(view: EvaluationView, index: np.ndarray, n: int) -> np.ndarray | None:
    import pandas as pd

    facts = json.loads(view.read("facts.json").read_text())
    if "keep" in facts:
        score = pd.read_parquet(view.read("scores.parquet"), columns=["score"])["score"].to_numpy()
        return -score if facts["keep"] == "high" else score
    if len(index) < n:
        return None
    rank = np.empty(n)
    rank[index] = np.arange(n)
    return rank


def detection(suspicion: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Return average precision, area under the ROC curve, precision and recall at the true count of wrong
    labels, and the best precision at each recall of `RECALLS` or more.

    suspicion: (n,), larger is more suspicious. wrong: (n,) bool.
    """
    order = np.argsort(-suspicion, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(suspicion[order]) != 0, True))
    hits = np.cumsum(wrong[order])[ends]
    precision, recall = hits / (ends + 1), hits / wrong.sum()
    false = (ends + 1 - hits) / (~wrong).sum()
    at_count = int(np.searchsorted(ends + 1, wrong.sum()))
    found = {
        "average_precision": float(np.sum(np.diff(recall, prepend=0) * precision)),
        "roc_auc": float(np.trapezoid(np.append(0, recall), np.append(0, false))),
        "precision_at_true_count": float(precision[at_count]),
        "recall_at_true_count": float(recall[at_count]),
    }
    return found | {f"precision_at_recall_{r}": float(precision[recall >= r].max()) for r in RECALLS}
