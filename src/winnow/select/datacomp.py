"""DataComp's rules for image-caption pairs, alone and intersected, at any budget.

    basic       English, more than `words` words, more than `characters` characters, shorter side at least
                `min_side` pixels, longer side at most `aspect` times as long
    text        English, and a word of the caption names a class of the target
    image       English, at least two words, more than 5 characters, and the image lies in a cluster that
                the target's images lie in
    clip_score  orders the pairs that pass by CLIP score; without it their order is random

The rules say which pairs pass, not how many to keep. Here those that pass all rules come first; a budget
above their number is filled with the others in the same order, and the facts say how many passed. As in the
released code, "more than two words" is strict: two fail and three pass.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.select.engine.pairs import pair_scores
from winnow.select.engine.subset import Subset, View, finite, subset

Rule = Literal["basic", "text", "image", "clip_score"]
WORDS, CHARACTERS, ENGLISH, NAMES_CLASS, MIN_SIDE, ASPECT = range(6)


class DataCompParams(Params):
    """english False accepts every language: short product names are not told from other languages."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = ("basic",)
    words: int = Field(default=2, ge=0)
    characters: int = Field(default=5, ge=0)
    min_side: int = Field(default=200, ge=0)
    aspect: float = Field(default=3.0, ge=1)
    english: bool = True


def needs(params: DataCompParams) -> Signals:
    found: dict[str, dict[str, object]] = {}
    if {"basic", "text", "image"} & set(params.rules):
        found["pair_facts"] = {}
    if "image" in params.rules:
        found["near_target"] = {}
    if "clip_score" in params.rules:
        found |= {"embeddings": {}, "text_embeddings": {}}
    return found


def nested(_: DataCompParams) -> bool:
    return True


@plugin(
    params=DataCompParams,
    variants={
        "basic": {},
        "text": {"rules": ("text",)},
        "image": {"rules": ("image",)},
        "image_and_clip": {"rules": ("image", "clip_score")},
        "text_and_clip": {"rules": ("text", "clip_score")},
        "basic_and_clip": {"rules": ("basic", "clip_score")},
    },
    needs=needs,
    nested=nested,
    source="Gadre et al. 2023, arXiv 2304.14108, section 4; code commit 4a8df19",
)
def select(view: View, budget: int | None, rng: np.random.Generator, params: DataCompParams) -> Subset:
    """Return the pairs that pass first, then the others; O(n log n).

    signals: `pair_facts` (n, 6), `near_target` (n,) bool, unit embeddings, as the rules need them.
    """
    passes = np.ones(view.n, bool)
    shares = {}
    for rule in params.rules:
        if rule != "clip_score":
            kept = passed(rule, view, params)
            shares[rule] = float(kept.mean()) if view.n else 0.0
            passes &= kept
    score = pair_scores(view, "datacomp") if "clip_score" in params.rules else rng.random(view.n)
    order = np.lexsort([-score, ~passes])
    return subset(order[:budget], facts={"passed": int(passes.sum()), "share_passed": shares})


def passed(rule: Rule, view: View, params: DataCompParams) -> np.ndarray:
    """Return which pairs pass one rule, (n,) bool."""
    facts = finite(view, "pair_facts", "datacomp")
    speaks = np.asarray((facts[:, ENGLISH] > 0) | (not params.english))
    if rule == "basic":
        long_enough = (facts[:, WORDS] > params.words) & (facts[:, CHARACTERS] > params.characters)
        fits = (facts[:, MIN_SIDE] >= params.min_side) & (facts[:, ASPECT] <= params.aspect)
        return np.asarray(speaks & long_enough & fits)
    if rule == "text":
        return np.asarray(speaks & (facts[:, NAMES_CLASS] > 0))
    has_caption = (facts[:, WORDS] > 1) & (facts[:, CHARACTERS] > 5)
    return np.asarray(speaks & has_caption & np.asarray(view.signals["near_target"], bool))
