"""Random seeds per axis, so that two arms share everything except what they compare."""

from __future__ import annotations

import hashlib

import numpy as np

AXES = ("data", "init", "order", "augmentation", "selection", "clustering", "evaluation")


def derive(root: int, axis: str, repetition: int, *context: str | int) -> int:
    """Return a 63-bit seed for one random axis of one repetition.

    The seed depends on nothing else, so arms with the same repetition draw the same initial
    weights, data order and split: comparisons over repetitions are paired.
    """
    if axis not in AXES:
        raise ValueError(f"unknown seed axis '{axis}'; accepted: {', '.join(AXES)}")
    key = "/".join(str(part) for part in (root, axis, repetition, *context))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(root: int, axis: str, repetition: int, *context: str | int) -> np.random.Generator:
    """Return a numpy generator seeded by :func:`derive`."""
    return np.random.default_rng(derive(root, axis, repetition, *context))
