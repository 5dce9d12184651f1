"""Label-noise scores of 50,000 examples: 10 classes, 30 epochs, a tenth of the labels wrong.

The bar for all of them is one library call, cleanlab's batched search on the same labels and logits.
Each score is also computed one example at a time, as its definition reads, and the two rankings are
compared; that loop is not timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from cleanlab.experimental.label_issues_batched import find_label_issues_batched
from scipy.special import softmax
from scipy.stats import spearmanr

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow import registry
from winnow.select.engine.subset import View

N, CLASSES, EPOCHS = 50_000, 10, 30


def pool() -> View:
    """Return labels of which a tenth is wrong, held-out logits, and the course of a training run."""
    random = np.random.default_rng(0)
    true = random.integers(CLASSES, size=N)
    wrong = random.random(N) < 0.1
    labels = np.where(wrong, (true + random.integers(1, CLASSES, size=N)) % CLASSES, true)
    logits = random.normal(size=(N, CLASSES)) + 4 * np.eye(CLASSES)[true]
    learned = np.where(wrong, 20, random.integers(1, 12, size=N))[:, None]
    margins = np.tanh((np.arange(EPOCHS) - learned) / 4) * 3 + random.normal(size=(N, EPOCHS))
    signals = {
        "heldout_logits": logits.astype(np.float32),
        "margin_history": margins.astype(np.float32),
        "loss_history": np.logaddexp(0, -margins).astype(np.float32),
        "correct_history": (margins > 0).astype(np.uint8),
    }
    return View(N, labels, signals)


def reference(name: str, view: View) -> list[float]:
    """Return the score of every example, one at a time."""
    if name == "confident_learning":
        rows = softmax(view.signals["heldout_logits"].astype(np.float64), axis=1).tolist()
        return [row[label] for row, label in zip(rows, view.labels, strict=True)]
    if name in ("aum", "small_loss"):
        history = view.signals["margin_history" if name == "aum" else "loss_history"]
        return [sum(row) / EPOCHS for row in history.tolist()]
    rows = view.signals["correct_history"].tolist()
    if name == "forgetting":
        events = [sum(a > b for a, b in pairwise(row)) for row in rows]
        return [count if any(row) else EPOCHS for count, row in zip(events, rows, strict=True)]
    return [next((e for e in range(EPOCHS) if all(row[e:])), EPOCHS) for row in rows]


def batched_call(view: View) -> np.ndarray:
    """Return the label issues of all examples, from logits as ours."""
    probabilities = softmax(view.signals["heldout_logits"].astype(np.float64), axis=1)
    return np.asarray(
        find_label_issues_batched(view.labels, probabilities, batch_size=N, verbose=False, n_jobs=1)
    )


def run() -> Iterator[Comparison]:
    view, random = pool(), np.random.default_rng(0)
    peer_s, _ = timed(lambda: batched_call(view))
    for name in ("confident_learning", "aum", "small_loss", "forgetting", "late_learning"):
        method = registry.load("select", name, "benchmark")
        params = method.params()
        seconds, chosen = timed(
            lambda method=method, params=params: method.function(view, None, random, params)  # type: ignore[misc]
        )
        columns = EPOCHS if name != "confident_learning" else CLASSES
        yield Comparison(
            name=f"label_noise/{name}",
            input=f"{N} x {columns}, score and order of all",
            n=N,
            ours_s=seconds,
            peer="cleanlab's batched call",
            peer_s=peer_s,
            ratio=peer_s / seconds,
            quality=float(spearmanr(chosen.score.values, reference(name, view)).statistic),
            quality_is="rank agreement with one example at a time",
            peak_gb=peak_gb(),
        )
