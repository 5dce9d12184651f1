"""GradMatch on one class of 5,000 examples, 10 outputs, 512 features, 500 kept, from logits and features.

The peer follows the released algorithm step by step: the outer products delta (x) [1, h] of all examples,
5,130 numbers each; at each pick the inner products of all of them with the residual, the Gram matrix of the
picks anew and a linear solve; non-negative least squares at the end. It runs with the scale, the lam and the
outcome that were released, and with the gradient of every example's own loss and the lam of our default.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.engine.gradients import Factors, mean_loss_scale, residuals
from winnow.select.engine.subset import View
from winnow.select.gradmatch import RELEASED, GradMatchParams, select

N, CLASSES, D, BUDGET = 5000, 10, 512, 500


def proxy_view(n: int, classes: int, d: int, labels: np.ndarray) -> View:
    """Return features after a rectifier around class centres, and logits that mostly agree with labels."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, d))
    features = np.maximum(0.5 * centres[labels] + random.normal(size=(n, d)), 0).astype(np.float32)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 2
    return View(n, labels, {"logits": logits, "features": features})


def explicit_gradients(view: View, scale: np.ndarray) -> torch.Tensor:
    """Return every example's gradient, (n, C (d + 1)) float32, times its scale."""
    residual = residuals(view.signals["logits"], view.labels) * scale[:, None]
    delta = torch.from_numpy(residual.astype(np.float32))
    features = torch.from_numpy(view.signals["features"])
    outer = delta[:, :, None] * features[:, None, :]
    return torch.cat([delta, outer.reshape(len(delta), -1)], dim=1)


def released_order(view: View, scale: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picks that end above zero, and their weights."""
    rows = explicit_gradients(view, scale)
    target = rows.mean(dim=0)
    gap, chosen, free = target, [], torch.ones(len(rows), dtype=torch.bool)
    system, right = torch.empty(0, 0), torch.empty(0)
    for _ in range(BUDGET):
        gain = torch.where(free, rows @ gap, -torch.inf)
        chosen.append(int(gain.argmax()))
        free[chosen[-1]] = False
        own = rows[chosen]
        system, right = own @ own.T + lam * torch.eye(len(chosen)), own @ target
        gap = target - own.T @ torch.linalg.solve(system, right)
    weight = nnls(system.double().numpy(), right.double().numpy(), maxiter=30 * BUDGET)[0]
    return np.array(chosen)[weight > 0], weight[weight > 0]


def run() -> Iterator[Comparison]:
    torch.set_num_threads(2)
    view, random = proxy_view(N, CLASSES, D, np.zeros(N, np.int64)), np.random.default_rng(0)
    small = proxy_view(50, CLASSES, D, np.zeros(50, np.int64))
    factors = Factors.of(view, "benchmark")
    cases = {
        "paper": (GradMatchParams(), np.ones(N), N),
        "released": (GradMatchParams(**RELEASED), mean_loss_scale(N), 1),  # type: ignore[arg-type]
    }
    for variant, (params, scale, total) in cases.items():
        select(small, 5, random, params)
        ours_s, ours = timed(lambda params=params: select(view, BUDGET, random, params))  # type: ignore[misc]
        memory = peak_gb()
        peer_s, peer = timed(lambda scale=scale, params=params: released_order(view, scale, params.lam))  # type: ignore[misc]
        own = factors.scaled(scale)
        yield Comparison(
            name=f"gradmatch/{variant}",
            input=f"{N} x {D}, one class of {CLASSES}, {BUDGET} kept",
            n=N,
            ours_s=ours_s,
            peer=f"released algorithm{'' if variant == 'released' else ', scale and lam mended'}",
            peer_s=peer_s,
            ratio=peer_s / ours_s,
            quality=residual(own, ours.index, ours.weight / total) / residual(own, *peer),
            quality_is="residual norm over the peer's",
            peak_gb=memory,
        )


def residual(factors: Factors, index: np.ndarray, weight: np.ndarray) -> float:
    """Return ||G - sum w_i g_i||."""
    return float(np.linalg.norm(factors.mean() - factors.take(index).sum(weight)))
