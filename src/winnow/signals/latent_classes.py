"""Latent classes: the groups within which SAS selects.

`kmeans` clusters the proxy's embeddings (faiss, several restarts); `few_labels` fits a linear
classifier by L-BFGS on a few labelled examples and predicts the rest, as the release does on CLIP
features (500 labels, weight decay 1e-3, 500 steps); `labels` takes the true classes, an oracle. `zero_shot`
takes the class whose name the image is most similar to, by an image-text proxy (the ClipCov release).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from winnow.errors import UserError
from winnow.registry import Params, Signals, plugin
from winnow.seeds import derive, generator
from winnow.signals.engine.view import SignalView
from winnow.train.engine.options import TEMPLATES, Names, Templates

ROWS = 2**16


class LatentClassParams(Params):
    """`k` None means as many classes as the dataset has."""

    source: Literal["kmeans", "few_labels", "labels", "zero_shot"] = "kmeans"
    k: int | None = Field(default=None, ge=1)
    labelled: int = Field(default=500, ge=1)
    penalty: float = Field(default=1e-3, ge=0)
    iterations: int = Field(default=500, ge=1)
    restarts: int = Field(default=5, ge=1)
    templates: Templates = TEMPLATES
    names: Names = "dataset"


def needs(params: LatentClassParams) -> Signals:
    if params.source == "labels":
        return {}
    if params.source != "zero_shot":
        return {"embeddings": {}}
    return {"embeddings": {}, "model": {"learned": "captions", "named": params.names == "dataset"}}


def groups(params: LatentClassParams, classes: int) -> int:
    if params.source == "zero_shot" and params.names == "imagenet":
        import open_clip

        return len(open_clip.IMAGENET_CLASSNAMES)
    return (params.k if params.source == "kmeans" else None) or classes


@plugin(
    params=LatentClassParams,
    needs=needs,
    groups=groups,
    source="Joshi and Mirzasoleiman, ICML 2023, arXiv 2302.09195, and its released code",
)
def compute(params: LatentClassParams, view: SignalView) -> np.ndarray:
    """Return (n,) int64 latent classes."""
    labels = view.data.pool_labels()
    if params.source == "labels":
        if (labels < 0).any():
            raise UserError(
                f"latent_classes: source 'labels' needs a label for every example of {view.data.name}"
            )
        return labels
    embeddings = np.asarray(view.signals["embeddings"], dtype=np.float32)
    if params.source == "kmeans":
        return _kmeans(embeddings, params, view)
    if params.source == "zero_shot":
        from winnow.signals.engine.encode import class_prompts

        return _nearest(embeddings, class_prompts(view.proxies[0], params.templates, params.names))
    return _few_labels(embeddings, labels, params, view)


def _nearest(embeddings: np.ndarray, classes: np.ndarray) -> np.ndarray:
    parts = np.array_split(embeddings, len(embeddings) // ROWS + 1)
    return np.concatenate([(part @ classes.T).argmax(axis=1) for part in parts]).astype(np.int64)


def _kmeans(embeddings: np.ndarray, params: LatentClassParams, view: SignalView) -> np.ndarray:
    import faiss

    k = params.k or len(view.data.classes)
    if k > len(embeddings):
        raise UserError(
            f"latent_classes: k is {k}, but there are {len(embeddings)} examples; accepted: at most that"
        )
    seed = derive(view.root_seed, "clustering", view.seed) % 2**31
    model = faiss.Kmeans(
        embeddings.shape[1], k, niter=50, nredo=params.restarts, seed=seed, min_points_per_centroid=1,
        max_points_per_centroid=len(embeddings),
    )  # fmt: skip
    model.train(np.ascontiguousarray(embeddings))
    return model.index.search(np.ascontiguousarray(embeddings), 1)[1][:, 0].astype(np.int64)


def _few_labels(
    embeddings: np.ndarray, labels: np.ndarray, params: LatentClassParams, view: SignalView
) -> np.ndarray:
    from winnow.models.engine.logistic import fit_logistic, predict

    known = np.flatnonzero(labels >= 0)
    random = generator(view.root_seed, "clustering", view.seed, "labelled")
    shown = np.sort(random.permutation(known)[: params.labelled])
    weights = fit_logistic(
        embeddings[shown], labels[shown], len(view.data.classes), params.penalty, params.iterations
    )
    return predict(embeddings, weights)
