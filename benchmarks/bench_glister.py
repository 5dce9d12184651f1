"""Glister on 5,000 examples, 10 outputs, 512 features, 500 kept, from logits and features; one group.

The peer follows the released algorithm step by step on outer products delta (x) [1, h], 5,130 numbers for
every example: the validation gradient is the mean of such rows over the pool, and a pick is the largest inner
product with it. Released, that is all. Mended, the pick moves the last layer and the validation gradient is
computed again, for every pick.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.bench_gradmatch import explicit_gradients, proxy_view
from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.gradients import Factors, mean_loss_scale
from winnow.select.engine.last_layer import LastLayer
from winnow.select.engine.subset import View
from winnow.select.glister import RELEASED, GlisterParams, select

N, CLASSES, D, BUDGET = 5000, 10, 512, 500


def released_order(view: View, scale: np.ndarray, eta: float, update: bool) -> np.ndarray:
    """Return the picks; the whole pool is the validation set."""
    rows = explicit_gradients(view, scale)
    gain = rows @ rows.mean(dim=0)
    if not update:
        return gain.argsort(descending=True, stable=True)[:BUDGET].numpy()
    logits, features = view.signals["logits"].copy(), torch.from_numpy(view.signals["features"])
    chosen: list[int] = []
    while len(chosen) < BUDGET:
        gain[chosen] = -torch.inf
        chosen.append(int(gain.argmax()))
        step = rows[chosen[-1]]
        logits -= eta * (features @ step[CLASSES:].reshape(CLASSES, D).T + step[:CLASSES]).numpy()
        moved = View(N, view.labels, {**view.signals, "logits": logits})
        gain = rows @ explicit_gradients(moved, scale).mean(dim=0)
    return np.array(chosen)


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    labels, random = np.random.default_rng(1).integers(CLASSES, size=N), np.random.default_rng(0)
    view = proxy_view(N, CLASSES, D, labels)
    small = View(50, labels[:50], {name: signal[:50] for name, signal in view.signals.items()})
    factors, eta = Factors.of(view, "benchmark"), GlisterParams().eta

    def loss_drop(index: np.ndarray) -> float:
        layer = LastLayer(view.signals["features"], view.signals["logits"], labels)
        before = layer.loss()
        layer.move(factors.take(index), eta)
        return before - layer.loss()

    cases = {
        "paper": (GlisterParams(), np.ones(N)),
        "released": (GlisterParams(**RELEASED), mean_loss_scale(N)),  # type: ignore[arg-type]
    }
    for variant, (params, scale) in cases.items():
        select(small, 5, random, params)
        ours_s, ours = timed(lambda params=params: select(view, BUDGET, random, params).index)  # type: ignore[misc]
        memory, update = peak_gb(), params.update
        peer_s, peer = timed(lambda scale=scale, update=update: released_order(view, scale, eta, update))  # type: ignore[misc]
        yield Comparison(
            name=f"glister/{variant}",
            input=f"{N} x {D}, {CLASSES} classes, {BUDGET} kept",
            n=N,
            ours_s=ours_s,
            peer=f"released algorithm{', with its update' if update else ''}",
            peer_s=peer_s,
            ratio=peer_s / ours_s,
            quality=loss_drop(ours) / loss_drop(peer),
            quality_is="validation loss taken off, over the peer's",
            peak_gb=memory,
        )
