"""What a protocol is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from winnow.data.dataset import Dataset


@dataclass(frozen=True)
class EvaluationView:
    """One repetition of the subject, a training or a selection, with the data it was made from.

    folder: what the subject wrote for this repetition; `read` verifies a file of it before use. random:
    generator of this repetition's validation split, the same for every arm. encode: frozen features of a
    split by the trained encoder, (n, d) float32 (protocols that need `model`); encode_images: the same of
    uint8 images (n, h, w, c). Of image-text models they have norm 1, and encode_texts: features of texts;
    encode_classes: of named classes by templates, in the same space. transfer: further datasets to be
    measured on, by name. save: keeps an array beside the metrics, under a file name. budget: how many
    examples of a selection's full ordering were taken, or None where it is cut already.
    """

    data: Dataset
    read: Callable[[str], Path]
    random: np.random.Generator
    encode: Callable[[str], np.ndarray]
    encode_images: Callable[[np.ndarray], np.ndarray]
    encode_texts: Callable[[Sequence[str]], np.ndarray]
    encode_classes: Callable[[Sequence[str], Sequence[str]], np.ndarray]
    save: Callable[[str, np.ndarray], None]
    budget: int | None = None
    transfer: Mapping[str, Dataset] = field(default_factory=dict)
