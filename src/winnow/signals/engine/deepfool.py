"""DeepFool on whole batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from winnow.signals.engine.classifier import classifier
from winnow.signals.engine.view import Proxy
from winnow.train.engine.features import BATCH
from winnow.train.engine.space import normalise, statistics
from winnow.train.engine.task import to_tensor


def distances(proxy: Proxy, iterations: int, classes: int, overshoot: float) -> np.ndarray:
    """Return the norm of the smallest change found for every image of the pool, (n,) float32.

    An image whose class no step could change (a dead gradient) is as far away as the farthest other one.
    """
    model = classifier(proxy).to(memory_format=torch.channels_last)
    mean, std = statistics(proxy.data, proxy.device)
    images, found = proxy.data.pool_images(), []
    for start in tqdm(range(0, len(images), BATCH), desc="deepfool", mininterval=5):
        batch = to_tensor(images[start : start + BATCH], proxy.device).float().div_(255)
        found.append(perturbation(model, normalise(batch, mean, std), iterations, classes, overshoot).cpu())
    norms = torch.cat(found)
    reached = norms.isfinite()
    farthest = norms[reached].max() if reached.any() else norms.new_zeros(())
    return torch.where(reached, norms, farthest).numpy()


def perturbation(model: nn.Module, images: Tensor, iterations: int, classes: int, overshoot: float) -> Tensor:
    """Return (b,) norms of the total perturbation of normalised images (b, c, h, w).

    Infinite where the class is still the same after all iterations.
    """
    with torch.no_grad():
        order = model(images).argsort(dim=1, descending=True)[:, :classes]
    total, active = torch.zeros_like(images), torch.arange(len(images), device=images.device)
    for _ in range(iterations):
        moved = images[active] + (1 + overshoot) * total[active]
        unchanged = _step(model, moved, order[active], total, active)
        active = active[unchanged]
        if not len(active):
            break
    norms: Tensor = (1 + overshoot) * torch.linalg.vector_norm(total.flatten(1), dim=1)
    return norms.index_fill(0, active, torch.inf)


def _step(model: nn.Module, moved: Tensor, order: Tensor, total: Tensor, active: Tensor) -> Tensor:
    """Add one step to the rows `active` of `total` whose class is unchanged; returns which those are."""
    moved = moved.detach().requires_grad_()
    logits = model(moved).gather(1, order)
    unchanged: Tensor = logits.argmax(dim=1) == 0
    slopes = torch.stack(
        [torch.autograd.grad(logits[:, k].sum(), moved, retain_graph=True)[0] for k in range(order.shape[1])],
        dim=1,
    )
    directions = (slopes[:, 1:] - slopes[:, :1]).detach()
    gaps = (logits[:, 1:] - logits[:, :1]).detach().abs()
    squares = directions.flatten(2).square().sum(dim=2).clamp_min(1e-12)
    nearest = (gaps / squares.sqrt()).argmin(dim=1)
    pick = torch.arange(len(moved), device=moved.device)
    scale = (gaps[pick, nearest] + 1e-4) / squares[pick, nearest]
    change = scale[:, None, None, None] * directions[pick, nearest]
    total[active[unchanged]] += change[unchanged]
    return unchanged
