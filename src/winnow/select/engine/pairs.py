"""Scores of image-caption pairs."""

from __future__ import annotations

import numpy as np

from winnow.errors import UserError
from winnow.select.engine.subset import View

ROWS = 2**16


def pair_scores(view: View, method: str) -> np.ndarray:
    """Return the inner product of each pair's unit embeddings, (n,) float32, reading both in pieces."""
    images, texts = view.signals["embeddings"], view.signals["text_embeddings"]
    found = np.empty(view.n, np.float32)
    for start in range(0, view.n, ROWS):
        part = slice(start, start + ROWS)
        found[part] = np.einsum(
            "nd,nd->n", images[part].astype(np.float32), texts[part].astype(np.float32), dtype=np.float32
        )
    if not np.isfinite(found).all():
        raise UserError(f"{method}: embeddings: a value is not finite")
    return found
