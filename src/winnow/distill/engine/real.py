"""The real data that a synthetic set stands in for, in the units that networks see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from winnow.data import whitening
from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.seeds import generator
from winnow.train.engine.recipe import ROOT_SEED, Examples
from winnow.train.engine.space import Space
from winnow.train.engine.synthetic import SyntheticSet

PUBLISHED = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation per channel of pixels in [0, 1] that the released distillation codes divide by. Those of
CIFAR-10 are the mean over images of each image's deviation, not the deviation of all pixels."""
VALIDATION = 0.1
"""Share of the real training data that is cut off, class by class, to tune learning rates on."""
Units = Literal["auto", "pixels", "network"]
BYTES = 50.0
"""Pixels of 0 to 255 have a larger value among them, images in [0, 1] or normalised ones have not."""
LEARNED = 0.25
"""How far, as a share of their range, pixels that were learned and not clamped lie outside it. Normalised and
whitened images spread on both sides of 0."""
ROUNDED = 0.05
"""By how much shares of classes that were stored with few digits may miss a sum of 1."""


@dataclass(frozen=True)
class RealData:
    """train: without what was cut off it for validation. The test split is for the last measurement alone."""

    name: str
    classes: tuple[str, ...]
    space: Space
    train: Examples
    validation: Examples
    test: Examples
    root_seed: int = ROOT_SEED

    @classmethod
    def of(cls, data: Dataset, statistics: str, zca: bool, root_seed: int = ROOT_SEED) -> RealData:
        """Read a dataset. statistics: `published` or `own`, the mean and deviation that are used.

        zca: whiten them instead, by all training images. Data that were prepared whitened are seen so.
        Validation images are the data's own split of that name or, without one, a tenth of the training data.
        """
        if not data.has_labels("train") or len(data.shape) != 3:
            raise UserError(f"{data.name}: ranking needs images with labels.")
        space, own = space_of(data, statistics), "validation" in data.splits
        kept, cut = _split(
            torch.from_numpy(np.array(data.labels("train"))), 0 if own else VALIDATION, root_seed
        )
        if zca and space.whitening is None:
            space = Space.whitened(*whiten(_images(data, "train")), data.shape[2])

        def examples(split: str, rows: Tensor | slice = slice(None)) -> Examples:
            labels = torch.from_numpy(np.array(data.labels(split)))
            return Examples(space(_images(data, split)[rows]), labels[rows])

        validation = examples("validation") if own else examples("train", cut)
        train, test = examples("train", kept), examples("test")
        return cls(data.name, data.classes, space, train, validation, test, root_seed)

    def random_rows(self, counts: Tensor, seed: int) -> Tensor:
        """Return random rows of `train`, as many of each class as `counts` says, others for each seed."""
        random = generator(self.root_seed, "selection", seed, "rank", "random")
        rows = []
        for label, count in enumerate(counts.tolist()):
            own = (self.train.labels == label).nonzero().flatten().numpy()
            if count > len(own):
                raise UserError(f"{self.name}: class {label} has {len(own)} examples, the set {count} of it.")
            rows.append(random.choice(own, count, replace=False))
        return torch.from_numpy(np.concatenate(rows))

    def fitting(
        self, images: Tensor, labels: Tensor, units: Units, where: str, factor: int = 1
    ) -> SyntheticSet:
        """Return images and labels from a file as a set for this data; refuses what cannot be one.

        factor: each image holds factor^2 small ones, which `shown` of the set enlarges.
        """
        check_images(images, tuple(self.test.images.shape[1:]), self.name, where)
        check_factor(images, factor, where)
        pixels = pixels_of(images, units)
        seen = images.float() if pixels is None else self.space(pixels)
        hard, soft = split_labels(labels, len(self.classes), where)
        return SyntheticSet(seen, hard, soft, factor=factor)


def check_images(images: Tensor, shape: tuple[int, ...], name: str, where: str) -> None:
    """Refuse images (n, c, h, w) of another shape (c, h, w) than a dataset's, and such as are not finite."""
    if tuple(images.shape[1:]) != shape:
        raise UserError(
            f"{where}: images are {tuple(images.shape[1:])}, those of {name} {shape} "
            "(channels, height, width)."
        )
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise UserError(f"{where}: some pixels are not finite.")


def check_factor(images: Tensor, factor: int, where: str) -> None:
    """Refuse a factor by which images cannot be cut."""
    if factor < 1 or images.shape[-1] % factor:
        raise UserError(f"{where}: factor {factor}: images of {images.shape[-1]} pixels cannot be cut so.")


def split_labels(labels: Tensor, classes: int, where: str) -> tuple[Tensor, Tensor | None]:
    """Return (hard labels, soft labels or None) of labels (n,), or (n, classes) probabilities or logits."""
    if labels.ndim == 1:
        hard = labels.long()
        if not bool(((hard == labels) & (hard >= 0) & (hard < classes)).all()):
            raise UserError(
                f"{where}: labels must be whole numbers from 0 to {classes - 1}; these are from"
                f" {float(labels.min()):g} to {float(labels.max()):g}. Is it a set of another dataset?"
            )
        return hard, None
    if labels.ndim != 2 or labels.shape[1] != classes:
        raise UserError(f"{where}: labels of shape {tuple(labels.shape)}; accepted: (n,) or (n, {classes}).")
    labels = labels.float()
    if not bool(torch.isfinite(labels).all()):
        raise UserError(f"{where}: some labels are not finite.")
    shares = labels.clamp_min(0)
    soft = shares / shares.sum(1, keepdim=True) if are_shares(labels) else labels.softmax(1)
    hard = soft.argmax(1)
    is_certain = bool((soft.max(1).values > 1 - 1e-6).all())
    return hard, None if is_certain else soft


def are_shares(labels: Tensor) -> bool:
    """Return whether labels (n, classes) are shares of classes, stored with few digits maybe, or logits."""
    sums = labels.float().sum(1)
    return bool(labels.min() >= -ROUNDED) and bool((sums - 1).abs().max() <= ROUNDED)


def whiten(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (matrix (d, d), mean (d,)) of the whitening of uint8 images (n, c, h, w)."""
    found = torch.from_numpy(whitening.whitening_of(pixels.permute(0, 2, 3, 1).numpy()))
    return found[:-1], found[-1]


def space_of(data: Dataset, statistics: str) -> Space:
    """Return what networks see of a dataset, by the constants of the released codes where there are any
    (`published`) or by those of its training images (`own`); of data that were prepared whitened, that.
    """
    if data.whitening() is not None:
        return Space.of(data, torch.device("cpu"))
    name = next(
        (name for name in sorted(PUBLISHED, key=len, reverse=True) if data.name.startswith(name)), None
    )
    mean, std = PUBLISHED[name] if statistics == "published" and name else (data.mean, data.std)
    return Space(torch.tensor(mean), torch.tensor(std))


def _images(data: Dataset, split: str) -> Tensor:
    return torch.from_numpy(np.array(data.images(split))).permute(0, 3, 1, 2).contiguous()


def pixels_of(images: Tensor, units: Units) -> Tensor | None:
    """Return images as pixels that are 0 to 1 but for what was learned, or None for what networks see; `auto`
    looks at them.

    Whole numbers, and values from about 0 to far beyond what networks see, are pixels of 0 to 255.
    """
    if units == "network":
        return None
    low, high = float(images.min()), float(images.max())
    top = 255 if not images.is_floating_point() or high > BYTES else 1
    inside = low >= -LEARNED * top and high <= (1 + LEARNED) * top
    return images.float() / top if units == "pixels" or inside else None


def _split(labels: Tensor, share: float, root_seed: int) -> tuple[Tensor, Tensor]:
    """Return (kept, cut) rows in their order: of each class a share is cut, the same for every set."""
    random = generator(root_seed, "data", 0, "rank", "validation")
    cut = [
        random.choice(own, round(share * len(own)), replace=False)
        for label in range(int(labels.max()) + 1)
        if len(own := (labels == label).nonzero().flatten().numpy())
    ]
    is_cut = torch.zeros(len(labels), dtype=torch.bool)
    is_cut[torch.from_numpy(np.concatenate(cut))] = True
    return (~is_cut).nonzero().flatten(), is_cut.nonzero().flatten()
