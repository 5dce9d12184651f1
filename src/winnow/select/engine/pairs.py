"""Scores of image-caption pairs."""

from __future__ import annotations

import numpy as np

from winnow.select.engine.subset import View, refuse_extremes

ROWS = 2**16


def pair_scores(view: View, method: str) -> np.ndarray:
    """Return the inner product of each pair's unit embeddings, (n,) float32, reading both in pieces."""
    images, texts = view.signals["embeddings"], view.signals["text_embeddings"]
    found = np.empty(view.n, np.float32)
    for start in range(0, view.n, ROWS):
        part = slice(start, start + ROWS)
        a, b = images[part].astype(np.float32), texts[part].astype(np.float32)
        refuse_extremes(a, "embeddings", method)
        refuse_extremes(b, "text_embeddings", method)
        found[part] = np.einsum("nd,nd->n", a, b)
    return found
