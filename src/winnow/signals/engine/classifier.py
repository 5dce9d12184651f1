"""What a supervised proxy says of every example: features, logits, last-layer gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from winnow.errors import UserError
from winnow.signals.engine.view import Proxy
from winnow.train.engine.features import features


def encoded(proxy: Proxy) -> tuple[np.ndarray, np.ndarray]:
    """Return penultimate features (n, d) and logits (n, classes) of the pool, float32."""
    model = classifier(proxy)
    space = proxy.space
    hidden = features(model.encoder, proxy.data.pool_images(), space)
    with torch.no_grad():
        logits = model.head.float()(hidden.to(proxy.device)).cpu()
    return hidden.numpy(), logits.numpy()


def classifier(proxy: Proxy) -> Any:
    """Return the proxy; one that was trained without labels is an error."""
    model: nn.Module = proxy.load()
    if not hasattr(model, "head"):
        raise UserError(f"{proxy.folder}: the proxy has no classifier; give `proxy` a supervised trainer.")
    return model


def residuals(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return softmax(logits) - onehot(labels), (n, classes) float32: the loss's gradient by the logits."""
    if (labels < 0).any():
        raise UserError("gradients need a label for every example of the pool; some have none.")
    found = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    found[np.arange(len(labels)), labels] -= 1
    return found
