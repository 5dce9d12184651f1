"""Similarity of every pair to the name of its own latent class: the label term of ClipCov.

The release reads an n x 1000 file that it does not ship; whether its rows are images or captions is not
documented, so that `side` chooses. The latent classes are zero-shot ones, so class k has the name k.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.signals.engine.view import SignalView
from winnow.train.engine.options import TEMPLATES, Names, Templates


class LabelSimilarityParams(Params):
    side: Literal["image", "caption"] = "image"
    templates: Templates = TEMPLATES
    names: Names = "dataset"


def needs(params: LabelSimilarityParams) -> Signals:
    rows = "embeddings" if params.side == "image" else "text_embeddings"
    classes = {"source": "zero_shot", "templates": params.templates, "names": params.names}
    model = {"learned": "captions", "named": params.names == "dataset"}
    return {rows: {}, "latent_classes": classes, "model": model}


@plugin(params=LabelSimilarityParams, needs=needs, source="ClipCov release, commit 25cc65f")
def compute(params: LabelSimilarityParams, view: SignalView) -> np.ndarray:
    """Return (n,) float32 cosines."""
    from winnow.signals.engine.encode import class_prompts

    rows = view.signals["embeddings" if params.side == "image" else "text_embeddings"]
    prompts, classes = (
        class_prompts(view.proxies[0], params.templates, params.names),
        view.signals["latent_classes"],
    )
    if classes.max(initial=-1) >= len(prompts):
        raise UserError(
            "label_similarity: the latent classes have no names; set `latent_classes: {source: zero_shot}` in"
            " the suite."
        )
    return np.asarray(np.einsum("nd,nd->n", rows, prompts[classes]), np.float32)
