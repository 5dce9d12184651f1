"""Similarities of n examples: a dense block while it fits, rows on the fly when it does not, or sparse.

Every kind answers the same questions: `block`, `column`, `diagonal`, `row_sums`. An (n, n) array exists
only where `memory_gb` allows it. Similarities are symmetric, except sparse ones, where row v holds the
examples that v can stand for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from winnow.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Index = np.ndarray | slice
Storage = Literal["float32", "float16", "bfloat16"]

BLOCK_BYTES = 2**26
STRIP = 1024
EVERY = slice(None)


class Gram(Protocol):
    """Vectors known by their inner products."""

    @property
    def n(self) -> int: ...

    def gram(self, a: Index, b: Index) -> np.ndarray:
        """Return the inner products of a with b, (len(a), len(b))."""

    def norms(self) -> np.ndarray:
        """Return the Euclidean norms, (n,) float64."""

    def scaled(self, scale: np.ndarray) -> Gram:
        """Return the vectors times scale, (n,)."""

    def sums(self) -> np.ndarray:
        """Return the inner product of each vector with the sum of all, (n,)."""


def squares(rows: np.ndarray) -> np.ndarray:
    """Return squared norms, (n,) float64: in float32 those of small rows would be zero."""
    total: np.ndarray = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    return total


def scaled_rows(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return rows times scale, (n,), in the type of rows; multiplied in float64, a buffer at a time."""
    out = np.empty_like(rows)
    np.multiply(rows, scale[:, None], out=out, dtype=np.float64, casting="same_kind")
    return out


class Vectors:
    """The rows of an (n, d) array."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = np.ascontiguousarray(rows)

    @property
    def n(self) -> int:
        return len(self.rows)

    def gram(self, a: Index, b: Index) -> np.ndarray:
        product: np.ndarray = self.rows[a] @ self.rows[b].T
        return product

    def norms(self) -> np.ndarray:
        norms: np.ndarray = np.sqrt(squares(self.rows))
        return norms

    def scaled(self, scale: np.ndarray) -> Vectors:
        return Vectors(scaled_rows(self.rows, scale))

    def sums(self) -> np.ndarray:
        sums: np.ndarray = self.rows @ self.rows.sum(axis=0, dtype=np.float64)
        return sums


class Similarity(ABC):
    """Similarities of every example to every other.

    dense: (n, n) float32 where that takes at most `memory_gb`. With storage float16 or bfloat16 an array
    of half the size is kept instead and decoded block by block. Failing both, blocks of 64 MB are
    computed whenever they are asked for. A kind calls this constructor last: it may compute.
    """

    def __init__(self, n: int, memory_gb: float, storage: Storage = "float32") -> None:
        self.n = n
        self.dense: np.ndarray | None = None
        self.half: np.ndarray | None = None
        self.shift = np.float32(0)
        if n**2 * (4 if storage == "float32" else 2) > memory_gb * 2**30:
            return
        if storage == "float32":
            self.dense = self._symmetric()
        else:
            self.half = np.empty((n, n), np.float16 if storage == "float16" else np.uint16)
            for part in self.parts():
                self.half[part] = encoded(self._compute(part), storage)

    def _symmetric(self) -> np.ndarray:
        """Return all similarities, (n, n) float32: those above the diagonal are computed, then mirrored."""
        dense = np.empty((self.n, self.n), np.float32)
        for begin in range(0, self.n, STRIP):
            end = min(begin + STRIP, self.n)
            dense[begin:end, begin:] = self._compute(slice(begin, end), slice(begin, None))
            dense[end:, begin:end] = dense[begin:end, end:].T
        return dense

    @abstractmethod
    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        """Return the similarities of some examples to others, all by default, float32, a new array."""

    @abstractmethod
    def _own(self) -> np.ndarray:
        """Return each example's similarity to itself, (n,)."""

    def parts(self) -> Iterator[slice]:
        """Cut the positions into parts whose blocks take about 64 MB each."""
        rows = max(1, BLOCK_BYTES // (4 * max(self.n, 1)))
        return (slice(begin, min(begin + rows, self.n)) for begin in range(0, self.n, rows))

    def block(self, index: Index) -> np.ndarray:
        """Return the similarities of some examples to all, (len(index), n) float32; not to be changed."""
        if self.dense is not None:
            dense: np.ndarray = self.dense[index]
            return dense
        values = self._compute(index) if self.half is None else decoded(self.half[index])
        if self.shift:
            values += self.shift
        return values

    def column(self, j: int) -> np.ndarray:
        """Return the similarities of every example to example j, (n,) float32."""
        column: np.ndarray = self.block(slice(j, j + 1))[0]
        return column

    def diagonal(self) -> np.ndarray:
        """Return each example's similarity to itself, (n,) float64."""
        if self.dense is not None:
            return self.dense.diagonal().astype(np.float64)
        own: np.ndarray = self._own().astype(np.float64) + self.shift
        return own

    def row_sums(self, diagonal: bool = True) -> np.ndarray:
        """Return each example's sum of similarities, (n,) float64, with or without its own."""
        sums = np.empty(self.n)
        for part in self.parts():
            sums[part] = self.block(part).sum(axis=1, dtype=np.float64)
        return sums if diagonal else sums - self.diagonal()


class Given(Similarity):
    """A symmetric (n, n) matrix that is there already; kept as float32."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        super().__init__(len(matrix), memory_gb=0)
        self.dense = self.matrix

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        return self.matrix[index, others].copy()

    def _own(self) -> np.ndarray:
        return self.matrix.diagonal()


class InnerProducts(Similarity):
    """Inner products of (n, d) rows; entries below `threshold` count as zero."""

    def __init__(
        self, rows: np.ndarray, threshold: float | None, memory_gb: float, storage: Storage = "float32"
    ) -> None:
        self.rows = np.ascontiguousarray(rows, dtype=np.float32)
        self.threshold = threshold
        super().__init__(len(rows), memory_gb, storage)

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        return self._cut(self.rows[index] @ self.rows[others].T)

    def _own(self) -> np.ndarray:
        return self._cut(np.einsum("nd,nd->n", self.rows, self.rows))

    def _cut(self, values: np.ndarray) -> np.ndarray:
        if self.threshold is not None:
            values *= values >= self.threshold
        return values


class Cosine(Similarity):
    """(1 + cos) / 2; a zero vector has cosine 0 with all."""

    def __init__(self, source: Gram, memory_gb: float, storage: Storage = "float32") -> None:
        norms = source.norms()
        self.known = norms > 0
        inverse = np.divide(1, norms, out=np.zeros_like(norms), where=self.known)
        self.halved = source.scaled(np.sqrt(0.5) * inverse)
        super().__init__(source.n, memory_gb, storage)

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        values = self.halved.gram(index, others)
        values += 0.5
        return values.astype(np.float32, copy=False)

    def _own(self) -> np.ndarray:
        return np.where(self.known, 1.0, 0.5)

    def row_sums(self, diagonal: bool = True) -> np.ndarray:
        if self.dense is not None or self.half is not None:
            return super().row_sums(diagonal)
        sums: np.ndarray = self.halved.sums() + 0.5 * self.n
        return sums if diagonal else sums - self.diagonal()


class Distances(Similarity):
    """Euclidean distances, for the functions of disparity; give float64 vectors to keep small ones.

    A squared distance that is rounding beside the squares of its two vectors is zero, so equal vectors
    are at distance zero exactly.
    """

    def __init__(self, source: Gram, memory_gb: float, storage: Storage = "float32") -> None:
        self.source = source
        self.squares = source.norms() ** 2
        super().__init__(source.n, memory_gb, storage)

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        from winnow.select.engine.distances import to_distances

        values = self.source.gram(index, others)
        rounding = 64 * float(np.finfo(values.dtype).eps)
        to_distances(values, self.squares[index], self.squares[others], rounding)
        return values.astype(np.float32, copy=False)

    def _own(self) -> np.ndarray:
        return np.zeros(self.n)


class Closeness(Distances):
    """max d - d + offset for Euclidean distances d, the maximum being over all pairs."""

    def __init__(
        self, source: Gram, memory_gb: float, storage: Storage = "float32", offset: float = 0.0
    ) -> None:
        super().__init__(source, memory_gb, storage)
        farthest = -min((float(self.block(part).min()) for part in self.parts()), default=0.0)
        self.shift = np.float32(farthest + offset)
        if self.dense is not None:
            self.dense += self.shift

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        distances = super()._compute(index, others)
        closeness: np.ndarray = np.negative(distances, out=distances)
        return closeness


class Sparse(Similarity):
    """Row v: the examples that v can stand for, with similarities above zero; all others count as zero.

    starts: (n + 1,), members, values: of row v between starts[v] and starts[v + 1].
    """

    def __init__(self, starts: np.ndarray, members: np.ndarray, values: np.ndarray) -> None:
        self.starts, self.members, self.values = starts, members, values
        super().__init__(len(starts) - 1, memory_gb=0)

    @classmethod
    def of(cls, matrix: csr_matrix) -> Sparse:
        """Return the similarities of an (n, n) SciPy matrix in CSR form."""
        return cls(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32))

    @classmethod
    def nearest(cls, similarity: Similarity, k: int) -> Sparse:
        """Keep for every example its k most similar ones; O(n^2) time, O(n k) memory."""
        from scipy.sparse import csr_matrix

        n = similarity.n
        k = min(k, n)
        members, values = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
        for part in similarity.parts():
            block = similarity.block(part)
            members[part] = np.argpartition(-block, k - 1, axis=1)[:, :k]
            values[part] = np.take_along_axis(block, members[part], axis=1)
        kept = csr_matrix((values.ravel(), members.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
        return cls.of(kept.T.tocsr())

    def row(self, v: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (members, values) of row v."""
        part = slice(self.starts[v], self.starts[v + 1])
        return self.members[part], self.values[part]

    def _compute(self, index: Index, others: slice = EVERY) -> np.ndarray:
        rows = np.arange(self.n)[index]
        block = np.zeros((len(rows), self.n), np.float32)
        for line, v in zip(block, rows, strict=True):
            members, values = self.row(v)
            line[members] = values
        return block[:, others]

    def _own(self) -> np.ndarray:
        own = np.zeros(self.n)
        rows = np.repeat(np.arange(self.n), np.diff(self.starts))
        found = self.members == rows
        own[rows[found]] = self.values[found]
        return own


def encoded(values: np.ndarray, storage: Storage) -> np.ndarray:
    """Return float32 values in two bytes each; bfloat16 (rounded to nearest, ties to even) as uint16."""
    if storage == "float16":
        if values.size and max(values.max(), -values.min()) > np.finfo(np.float16).max:
            raise UserError("storage: a similarity is too large for float16 (65504); use bfloat16 or float32")
        return values.astype(np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def decoded(values: np.ndarray) -> np.ndarray:
    """Return float32 values from what `encoded` made."""
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)
