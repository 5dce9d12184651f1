"""Embeddings of a pool, averaged over augmented views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from winnow.seeds import derive
from winnow.signals.engine.view import SignalView
from winnow.train.engine.features import features
from winnow.train.engine.task import statistics

if TYPE_CHECKING:
    from winnow.signals.embeddings import EmbeddingParams


def encode(params: EmbeddingParams, view: SignalView) -> np.ndarray:
    """Return mean unit-norm embeddings of the pool, (n, d) float32."""
    trained = view.proxies[0].load()
    model = trained if params.layer == "projection" else trained.encoder
    mean, std = statistics(view.data, view.proxies[0].device)
    images = view.data.pool_images()
    if not params.augment_views:
        return functional.normalize(features(model, images, mean, std), dim=1).numpy()
    from winnow.train.engine.augment import build_augmentation

    augment = build_augmentation(params.augment, images.shape[3], images.shape[1])
    total = torch.zeros(1)
    for draw in range(params.augment_views):
        torch.manual_seed(derive(view.root_seed, "augmentation", view.seed, "signal", draw))
        total = total + functional.normalize(features(model, images, mean, std, augment), dim=1)
    return (total / params.augment_views).numpy()
