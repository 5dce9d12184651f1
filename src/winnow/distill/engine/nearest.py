"""Real images that stand for clusters of their class, in the features of a network.

Source: Liu et al. 2023, arXiv 2302.14416 (DREAM): the nearest neighbours of k-means centres.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.select.engine.clusters import kmeans
from winnow.train.engine.synthetic import packed

BATCH, MEMORY_GB = 512, 1.0


class Nearest:
    """The images of each class that stand for `count` clusters of it; rows: (classes, count), -1 where fewer.

    wanted: (classes,) how many synthetic examples there are; a class of none is not looked at.
    """

    def __init__(self, view: DistillView, count: int, wanted: Tensor) -> None:
        self.view, self.count, self.pool = view, count, view.members()
        self.classes = [label for label in range(view.classes) if int(wanted[label])]
        self.rows = torch.full((view.classes, count), -1)

    def look(self, network: nn.Module, weights: Tensor, step: int) -> None:
        """Choose anew, in the features of a network with these weights."""
        vector_to_parameters(weights.clone(), network.parameters())
        seed = self.view.derive("clustering", step)
        for label in self.classes:
            found = nearest_to_centres(self.view, network, self.pool[label], self.count, seed)
            self.rows[label] = -1
            self.rows[label, : len(found)] = found.cpu()

    def members(self) -> list[Tensor]:
        """Return the positions in the pool by class."""
        return [own[own >= 0].to(self.view.device) for own in self.rows]


def packed_nearest(view: DistillView, labels: Tensor, factor: int, clustered: bool) -> Tensor:
    """Return an image for each label that holds factor^2 real ones of its class.

    clustered: those nearest to the centres of as many clusters, instead of random ones.
    """
    network, found = view.network(0), torch.empty(len(labels), *view.real.images.shape[1:])
    found = found.to(view.real.images)
    for label, members in enumerate(view.members()):
        own = (labels == label).nonzero().flatten()
        needed = len(own) * factor**2
        if not needed:
            continue
        if len(members) < needed:
            raise UserError(
                f"{view.label}: class {label} has {len(members)} real images, {needed} are needed; lower"
                " `factor` or the fraction in the suite"
            )
        seed = view.derive("clustering", "start", label)
        chosen = members[torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))]
        if clustered:
            near = nearest_to_centres(view, network, members, needed, seed)
            chosen = torch.cat([near, chosen[~torch.isin(chosen, near)]])
        found[own] = packed(view.real.images[chosen[:needed]], factor, found.shape[2])
    return found


@torch.no_grad()
def nearest_to_centres(
    view: DistillView, network: nn.Module, members: Tensor, count: int, seed: int
) -> Tensor:
    """Return, for k-means with `count` centres, the member nearest to each centre, without repeats."""
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    parts = [encoder(view.real.images[rows]).float().cpu() for rows in torch.split(members, BATCH)]
    features = torch.cat(parts).numpy()
    clusters = kmeans(features, count, np.random.default_rng(seed), spherical=False, memory_gb=MEMORY_GB)
    found = [
        cell[np.square(features[cell] - centre).sum(1).argmin()]
        for cell, centre in zip(clusters.members, clusters.centroids, strict=True)
    ]
    return members[torch.from_numpy(np.array(found, np.int64)).to(members.device)]
