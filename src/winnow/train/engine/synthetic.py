"""A synthetic set: images with hard or soft labels, in the units that networks see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from winnow.errors import UserError

SEEN = "seen"
"""In the header of sets that this project made, by the statistics of the training images: plain or zca."""


def seen_as(path: Path) -> str | None:
    """Return whether the networks of a set that this project made saw `plain` images or `zca`, else None."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(SEEN)
    except SafetensorError:
        return None  # whoever reads it says what is wrong with it


@dataclass(frozen=True)
class SyntheticSet:
    """images: (n, c, h, w) float32, as a network is shown them. labels: (n,) int64. soft: (n, classes)
    float32, rows that sum to 1, or None. step_size: the learned step size of the inner loop, or None.
    targets: (n, d) float32 to regress on instead of labels, or None. factor: each image holds factor^2 small
    ones, which networks are shown enlarged (see `unpacked`).
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None = None
    step_size: float | None = None
    targets: Tensor | None = None
    factor: int = 1

    @property
    def bytes_of_labels(self) -> int:
        """What the labels take on disk: soft ones can outweigh the images."""
        return sum(
            part.numel() * part.element_size()
            for part in (self.labels, self.soft, self.targets)
            if part is not None
        )

    def save(self, path: Path, seen: str = "plain") -> None:
        """Write a safetensors file that `load` reads. seen: what `seen_as` says of it, `plain` or `zca`."""
        tensors = {"images": self.images.contiguous(), "labels": self.labels}
        for name, part in (("soft", self.soft), ("targets", self.targets)):
            if part is not None:
                tensors[name] = part.contiguous()
        if self.step_size is not None:
            tensors["step_size"] = torch.tensor(self.step_size, dtype=torch.float32)
        if self.factor > 1:
            tensors["factor"] = torch.tensor(self.factor)
        save_file(tensors, path, {SEEN: seen})

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        tensors = load_file(path)
        if not {"images", "labels"} <= set(tensors):
            raise UserError(f"{path}: has no `images` and `labels`, but {', '.join(sorted(tensors))}.")
        size = tensors.get("step_size")
        step_size = None if size is None else float(size)
        return cls(
            tensors["images"],
            tensors["labels"],
            tensors.get("soft"),
            step_size,
            tensors.get("targets"),
            int(tensors.get("factor", torch.tensor(1))),
        )

    def shown(self) -> SyntheticSet:
        """Return the set as networks are shown it: factor^2 examples of each."""
        if self.factor == 1:
            return self

        def each(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.repeat(self.factor**2, *[1] * (part.dim() - 1))

        return replace(
            self,
            images=unpacked(self.images, self.factor),
            labels=self.labels.repeat(self.factor**2),
            soft=each(self.soft),
            targets=each(self.targets),
            factor=1,
        )


def unpacked(images: Tensor, factor: int) -> Tensor:
    """Return (factor^2 n, c, h, w): first the upper left part of every image, enlarged, then the next ones.

    Source: Kim et al. 2022, arXiv 2205.14959 (multi-formation).
    """
    if factor == 1:
        return images
    count, channels, height, width = images.shape
    parts = images.reshape(count, channels, factor, height // factor, factor, width // factor)
    parts = parts.permute(2, 4, 0, 1, 3, 5).reshape(-1, channels, height // factor, width // factor)
    return functional.interpolate(parts, size=(height, width), mode="bilinear")


def packed(images: Tensor, factor: int, size: int) -> Tensor:
    """Return (n, c, size, size) of factor^2 n square images, in the order in which `unpacked` reads them."""
    if size % factor:
        raise UserError(f"images of {size} pixels cannot hold {factor} x {factor} others; change `factor`")
    channels, side = images.shape[1], size // factor
    small = functional.interpolate(images, size=(side, side), mode="area")
    parts = small.reshape(factor, factor, -1, channels, side, side)
    return parts.permute(2, 3, 0, 4, 1, 5).reshape(-1, channels, size, size)
