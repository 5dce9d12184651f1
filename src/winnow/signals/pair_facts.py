"""What can be said of a pair without a model: length and language of its caption, size of its image.

The columns are what DataComp's rules look at. A caption names a class if one of its words is a word of a
class name, the plural aside: DataComp asks whether a word is a synset of ImageNet-21k, which is the list of
classes of its target. Of several captions the first counts. Sizes are those of the published image, as far
as the table or the shards have them (`Dataset.sizes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from winnow.registry import Params, plugin
from winnow.signals.engine.view import SignalView

COLUMNS = ("words", "characters", "is_english", "names_class", "min_side", "aspect")
WORD = re.compile(r"[a-z]+")
NOT_NAMES = frozenset({"and", "or", "of", "the", "a", "an", "with", "for", "in", "on", "to"})


@plugin(source="Gadre et al. 2023, arXiv 2304.14108, appendix; py3langid for the language")
def compute(params: Params, view: SignalView) -> np.ndarray:
    """Return (n, 6) float32, columns as in `COLUMNS`."""
    captions = [own[0] for own in view.data.pool_captions()]
    names = class_words(view.data.classes)
    columns: list[Any] = [
        [len(text.split()) for text in captions],
        [len(text) for text in captions],
        english(captions),
        [bool(names & stems(text)) for text in captions],
        *_sides(view),
    ]
    return np.column_stack(columns).astype(np.float32)


def class_words(classes: Iterable[str]) -> set[str]:
    """Return the words that class names are made of."""
    return {word for name in classes for word in stems(name)} - NOT_NAMES


def stems(text: str) -> set[str]:
    """Return the words of a text in lower case, without a plural s."""
    return {word.removesuffix("s") for word in WORD.findall(text.lower())}


def english(captions: list[str]) -> list[bool]:
    """Return which captions are most likely English among the languages that the library knows."""
    import py3langid

    known: dict[str, bool] = {}
    for text in captions:
        if text not in known:
            known[text] = py3langid.classify(text)[0] == "en"
    return [known[text] for text in captions]


def _sides(view: SignalView) -> tuple[np.ndarray, np.ndarray]:
    """Return the shorter side in pixels, and how many times as long the other one is."""
    sizes = np.concatenate([view.data.sizes(split) for split in view.data.pool])
    shorter, longer = sizes.min(axis=1), sizes.max(axis=1)
    return shorter, longer / shorter
