"""Captions written anew, moved to other examples, thinned out, or with random words put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from winnow.errors import UserError, unknown
from winnow.plan.catalogue import Recaption

Mask = npt.NDArray[np.bool_]
Caption = TypeVar("Caption", str, Sequence[str])
"""What an example has: a caption, or several."""

FIELD = re.compile(r"\{(\w+)\}")
"""Where a template has the value of a column."""


def recaptioned(
    captions: Sequence[Caption], change: Recaption, rng: np.random.Generator
) -> tuple[list[Caption], Mask | None]:
    """Return the captions with the noise that `change` asks for, and which were swapped (None: no swapping).

    Swapping comes first; of an example with several captions all move together. `mask` and `random_words` of
    one seed choose the same words; one word of a caption always stays, so that none ends empty.
    """
    found, swapped = list(captions), None
    if change.swap:
        found, swapped = swap(found, change.swap, rng)
    share = change.mask or change.random_words
    if share:
        texts = [text for own in found for text in _texts(own)]
        vocabulary = sorted({word for text in texts for word in text.split()})
        chosen = [_chosen(len(text.split()), share, rng) for text in texts]
        words = vocabulary if change.random_words else None
        changed = (_changed(text, at, words, rng) for text, at in zip(texts, chosen, strict=True))
        found = [next(changed) if isinstance(own, str) else [next(changed) for _ in own] for own in found]
    return found, swapped


def written(template: str, columns: Mapping[str, Iterable[object]], where: str) -> list[str]:
    """Return a caption per example: the template, with its value in that column in place of each `{name}`.

    A missing value leaves no gap: words stand one space apart. `where` is the split to name in errors.
    """
    names = FIELD.findall(template)
    for name in names:
        if name not in columns:
            raise unknown("column", name, columns, f"{where}: recaption.template")
    rows = zip(*(columns[name] for name in names), strict=True)
    return [
        _filled(template, dict(zip(names, row, strict=True)), f"{where}, example {k}")
        for k, row in enumerate(rows)
    ]


def _filled(template: str, values: Mapping[str, object], where: str) -> str:
    for name, value in values.items():
        is_missing = value is None or (isinstance(value, float) and np.isnan(value))
        if not (isinstance(value, str) or is_missing):
            raise UserError(f"{where}: recaption.template: '{name}' is no text but {value!r}.")
    texts = {name: value if isinstance(value, str) else "" for name, value in values.items()}
    caption = " ".join(FIELD.sub(lambda found: texts[found[1]], template).split())
    if not caption:
        raise UserError(f"{where}: recaption.template leaves the caption empty; name a column with text.")
    return caption


def _texts(captions: str | Sequence[str]) -> Sequence[str]:
    return [captions] if isinstance(captions, str) else captions


def swap(captions: Sequence[Caption], share: float, rng: np.random.Generator) -> tuple[list[Caption], Mask]:
    """Return the captions after a share of them, drawn at random, changed places among themselves.

    No caption lands on an example with the same text as long as no text makes up more than half of those
    drawn: wherever a random permutation does that, the place is exchanged with a random one of those where
    both texts differ, and there is always one. Else a caption that cannot be helped stays, and the mask
    says so. O(m) for m swapped captions, and O(m) for each that is exchanged.
    """
    n = len(captions)
    texts = np.unique(["\n".join(_texts(own)) for own in captions], return_inverse=True)[1]
    rows = rng.permutation(n)[: round(share * n)]
    own, source = texts[rows], rng.permutation(rows)
    for place in np.flatnonzero(own == texts[source]):
        if own[place] != texts[source[place]]:
            continue
        free = np.flatnonzero((own != own[place]) & (texts[source] != own[place]))
        if len(free):
            other = rng.choice(free)
            source[[place, other]] = source[[other, place]]
    found = list(captions)
    for row, origin in zip(rows, source, strict=True):
        found[row] = captions[origin]
    swapped = np.zeros(n, dtype=bool)
    swapped[rows] = own != texts[source]
    return found, swapped


def _chosen(words: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the places of share x words words, rounded at random to be right on average, but not all."""
    count = int(np.floor(share * words + rng.random()))
    return rng.permutation(words)[: min(count, max(words - 1, 0))]


def _changed(
    caption: str, places: npt.NDArray[np.int64], vocabulary: list[str] | None, rng: np.random.Generator
) -> str:
    """Return the caption without the words at these places, or with random ones of `vocabulary` there."""
    words: list[str | None] = list(caption.split())
    for place in places:
        words[place] = vocabulary[rng.integers(len(vocabulary))] if vocabulary else None
    return " ".join(word for word in words if word is not None)
