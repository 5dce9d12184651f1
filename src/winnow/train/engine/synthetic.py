"""A synthetic set: images with hard or soft labels, in the units that networks see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from winnow.errors import UserError


@dataclass(frozen=True)
class SyntheticSet:
    """images: (n, c, h, w) float32, as a network is shown them. labels: (n,) int64. soft: (n, classes)
    float32, rows that sum to 1, or None. step_size: the learned step size of the inner loop, or None.
    targets: (n, d) float32 to regress on instead of labels, or None.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None = None
    step_size: float | None = None
    targets: Tensor | None = None

    @property
    def bytes_of_labels(self) -> int:
        """What the labels take on disk: soft ones can outweigh the images."""
        return sum(
            part.numel() * part.element_size()
            for part in (self.labels, self.soft, self.targets)
            if part is not None
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load` reads."""
        tensors = {"images": self.images.contiguous(), "labels": self.labels}
        for name, part in (("soft", self.soft), ("targets", self.targets)):
            if part is not None:
                tensors[name] = part.contiguous()
        if self.step_size is not None:
            tensors["step_size"] = torch.tensor(self.step_size, dtype=torch.float32)
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        tensors = load_file(path)
        if not {"images", "labels"} <= set(tensors):
            raise UserError(f"{path}: has no `images` and `labels`, but {', '.join(sorted(tensors))}.")
        size = tensors.get("step_size")
        step_size = None if size is None else float(size)
        return cls(
            tensors["images"], tensors["labels"], tensors.get("soft"), step_size, tensors.get("targets")
        )
