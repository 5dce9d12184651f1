"""Whether a pool image lies in a cluster that the target's images lie in: DataComp's image-based rule.

The pool's embeddings are clustered (spherical k-means); a cluster counts if its centroid is the nearest one
of at least one image of the target: the training images of the dataset that the grid names as
`target_images`, or its own validation split.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from winnow.registry import Params, Signals, plugin
from winnow.seeds import derive
from winnow.signals.engine.view import SignalView


class NearTargetParams(Params):
    """share: clusters per example of the pool; DataComp has 100,000 for its 12.8 million."""

    share: float = Field(default=1 / 128, gt=0, le=1)


def needs(_: NearTargetParams) -> Signals:
    return {"embeddings": {}, "model": {}, "target": {}}


@plugin(params=NearTargetParams, needs=needs, source="Gadre et al. 2023, arXiv 2304.14108, section 4.2")
def compute(params: NearTargetParams, view: SignalView) -> np.ndarray:
    """Return (n,) bool."""
    from winnow.signals.engine.encode import features_of_others, image_features

    if view.target is None:
        target = image_features(view.proxies[0], "validation")
    else:
        target = features_of_others(view.proxies[0], view.target.images("train"))
    pool = np.ascontiguousarray(view.signals["embeddings"], dtype=np.float32)
    k = max(1, round(params.share * len(pool)))
    return _in_shared_clusters(pool, target, k, derive(view.root_seed, "clustering", view.seed, "target"))


def _in_shared_clusters(pool: np.ndarray, target: np.ndarray, k: int, seed: int) -> np.ndarray:
    import faiss

    model = faiss.Kmeans(
        pool.shape[1], k, niter=20, seed=seed % 2**31, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=256,
    )  # fmt: skip
    model.train(pool)
    shared = np.unique(model.index.search(np.ascontiguousarray(target, dtype=np.float32), 1)[1])
    return np.isin(model.index.search(pool, 1)[1][:, 0], shared)
