"""What a protocol is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from winnow.data.dataset import Dataset
from winnow.plan.specs import Judge
from winnow.store import Cost


@dataclass(frozen=True)
class Trial:
    """What a protocol that trains networks itself is given for one repetition.

    judge: the network and the recipe. is_made: whether the subject is a synthetic set, not a selection.
    beside: verifies and names a file, of this repetition, of the evaluation that it compares with.
    checkpoint: where it may keep what it has done. out: where it writes. cost: to which it adds what a killed
    run had spent.
    """

    seed: int
    root_seed: int
    device: str
    judge: Judge
    is_made: bool
    beside: Callable[[str], Path]
    checkpoint: Path
    out: Path
    cost: Cost


@dataclass(frozen=True)
class EvaluationView:
    """One repetition of the subject, a training, a selection or a synthetic set, with its data.

    folder: what the subject wrote for this repetition; `read` verifies a file of it before use. random:
    generator of this repetition's validation split, the same for every arm. encode: frozen features of a
    split by the trained encoder, (n, d) float32 (protocols that need `model`); encode_images: the same of
    uint8 images (n, h, w, c). Of image-text models they have norm 1, and encode_texts: features of texts;
    encode_classes: of named classes by templates, in the same space. on_test_set: scores for the
    classes, and labels, of further data of kind `benchmark`. transfer: further datasets to be
    measured on, by name. save: keeps an array beside the metrics, under a file name. budget: how many
    examples of a selection's full ordering were taken, or None where it is cut already; of the data
    themselves, how many to draw. trial: for protocols that need `judge`.
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
    trial: Trial | None = None
    on_test_set: Callable[[Dataset], tuple[np.ndarray, np.ndarray]] | None = None
