"""Similarities within a group: a dense block while it fits, columns on the fly when it does not."""

from __future__ import annotations

import numpy as np

BLOCK = 2048


class Similarity:
    """Inner products of (n, d) float32 rows; entries below `threshold` count as zero.

    Memory: 4 n^2 bytes when that is at most `memory_gb`, else 4 n d bytes and blocks of 2,048 rows.
    """

    def __init__(self, rows: np.ndarray, threshold: float | None, memory_gb: float) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float32)
        self.threshold = threshold
        self.n = len(rows)
        fits = 4 * self.n**2 <= memory_gb * 2**30
        self.dense = self._cut(self.rows @ self.rows.T) if fits else None

    def _cut(self, values: np.ndarray) -> np.ndarray:
        if self.threshold is not None:
            values *= values >= self.threshold
        return values

    def column(self, j: int) -> np.ndarray:
        """Return the similarities of every row to row j, (n,) float32."""
        values: np.ndarray
        values = self.dense[j] if self.dense is not None else self._cut(self.rows @ self.rows[j])
        return values

    def diagonal(self) -> np.ndarray:
        """Return each row's similarity to itself, (n,) float64."""
        if self.dense is not None:
            return self.dense.diagonal().astype(np.float64)
        return self._cut(np.einsum("nd,nd->n", self.rows, self.rows)).astype(np.float64)

    def row_sums(self, diagonal: bool) -> np.ndarray:
        """Return each row's sum of similarities, (n,) float64, with or without its own."""
        sums: np.ndarray
        if self.dense is not None:
            sums = self.dense.sum(axis=1, dtype=np.float64)
        else:
            blocks = (self._cut(self.rows[i : i + BLOCK] @ self.rows.T) for i in range(0, self.n, BLOCK))
            sums = np.concatenate([block.sum(axis=1, dtype=np.float64) for block in blocks])
        return sums if diagonal else sums - self.diagonal()
