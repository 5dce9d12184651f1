"""Pairs of vectors drawn from the two data models of arXiv 2310.04971: no file, exact populations.

An example is three vectors of d dimensions, stored as one float32 array (3, d, 1): its image, its caption,
and the caption that names its class alone (the prompt). With orthonormal dictionaries D_I and D_T (d,
latents),

    image = D_I z + noise        caption = D_T t + noise        prompt = D_T l(y)

l(y) is the part of a caption that names the class y. A caption always says that much; each latent feature is
mentioned besides with probability `richness`, independently, and its coordinate is then the image's own
value.

`intra_class` (data model 1): y is -1 or 1 with equal chance. The core feature z_0 ~ N(y, sigma_core^2) has a
high variance, the spurious one z_1 ~ N(a, sigma_spu^2) a low one; a is y with probability `spurious`, else
-y. l(y) = (y, 0). The paper takes sigma_spu of the order 1 / sqrt(log n).

`inter_class` (data model 2): 2m classes (k, b), k one of m groups, b = -1 or 1. The core feature of group k
is z_k ~ N(b, sigma_core^2); the other m - 1 features are details of size `detail` and random sign, but that
of the next group has the sign b with probability `spurious`. What is spurious in one class is the core
feature of another one and a free detail in the rest. l(y) = b in coordinate k, else 0. The label is 2k + (b >
0).

Splits: `train`; `validation` is drawn like it; in `test` the correlation is turned round (1 - `spurious`).

The paper's code was never released and its text leaves choices open; these are ours: what an unmentioned
feature is in a caption (0, or the class's mean for the core), how data model 2 makes a detail spurious, and
the noise. Draws depend on seed, split and n alone, so that data which differ in `richness`, `spurious` or a
variance share them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from winnow.data.batch import Batch, Labels
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, ReaderOptions

Floats = npt.NDArray[np.float64]
Probability = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0)]

IMAGE, CAPTION, PROMPT = range(3)


class Options(ReaderOptions):
    """Options of the reader `linear_pairs`; `noise` is the deviation of each coordinate's noise."""

    model: Literal["intra_class", "inter_class"]
    dimensions: Annotated[int, Field(ge=2)] = 20
    richness: Probability = 1.0
    spurious: Probability = 0.9
    sigma_core: Deviation = 1.0
    sigma_spu: Deviation = 0.3
    noise: Deviation = 0.1
    groups: Annotated[int, Field(ge=2)] = 5
    detail: Deviation = 0.5
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _latents_fit(self) -> Self:
        if self.latents > self.dimensions:
            raise ValueError(f"`dimensions` {self.dimensions} cannot hold {self.latents} latent features.")
        return self

    @property
    def latents(self) -> int:
        """The number of latent features."""
        return 2 if self.model == "intra_class" else self.groups

    @property
    def classes(self) -> int:
        """The number of classes."""
        return 2 if self.model == "intra_class" else 2 * self.groups


class Latents(NamedTuple):
    """What examples are made of: features z, captions and class parts, all (n, latents); labels (n,)."""

    features: Floats
    captions: Floats
    prompts: Floats
    labels: Labels


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield the splits; needs no file."""
    options = Options.model_validate(entry.options)
    expected = (3, options.dimensions, 1)
    if entry.kind != "vectors" or entry.shape != expected or entry.class_count != options.classes:
        raise UserError(
            f"datasets.yaml: {entry.name}: these options need `kind: vectors`, `shape: {list(expected)}` and"
            f" {options.classes} classes."
        )
    rng = np.random.default_rng([options.seed, zlib.crc32(b"dictionaries")])
    size = (options.dimensions, options.latents)
    dictionaries = [np.linalg.qr(rng.standard_normal(size))[0] for _ in range(2)]
    for split, n in entry.splits.items():
        rng = np.random.default_rng([options.seed, zlib.crc32(split.encode())])
        agreement = 1 - options.spurious if split == "test" else options.spurious
        latents = draw(options, n, agreement, rng)
        yield Batch(split, images=_embedded(latents, dictionaries, options.noise, rng), labels=latents.labels)


def draw(options: Options, n: int, spurious: float, rng: np.random.Generator) -> Latents:
    """Return n examples whose spurious feature agrees with the label with probability `spurious`."""
    drawn = _intra_class if options.model == "intra_class" else _inter_class
    features, prompts, labels = drawn(options, n, spurious, rng)
    said = rng.random(features.shape) < options.richness
    return Latents(features, np.where(said, features, prompts), prompts, labels)


def _intra_class(
    options: Options, n: int, spurious: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Labels]:
    labels = rng.integers(2, size=n)
    sign = 2.0 * labels - 1
    agrees = rng.random(n) < spurious
    spread = rng.standard_normal((n, 2)) * (options.sigma_core, options.sigma_spu)
    features = np.stack([sign, np.where(agrees, sign, -sign)], axis=1) + spread
    return features, np.stack([sign, np.zeros(n)], axis=1), labels


def _inter_class(
    options: Options, n: int, spurious: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Labels]:
    rows, m = np.arange(n), options.groups
    labels = rng.integers(2 * m, size=n)
    group, sign = labels // 2, 2.0 * (labels % 2) - 1
    agrees = rng.random(n) < spurious
    features = options.detail * rng.choice((-1.0, 1.0), size=(n, m))
    features[rows, (group + 1) % m] = options.detail * np.where(agrees, sign, -sign)
    features[rows, group] = sign + options.sigma_core * rng.standard_normal(n)
    prompts = np.zeros((n, m))
    prompts[rows, group] = sign
    return features, prompts, labels


def _embedded(
    latents: Latents, dictionaries: list[Floats], noise: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    image, text = dictionaries
    parts = [latents.features @ image.T, latents.captions @ text.T, latents.prompts @ text.T]
    parts[:PROMPT] = [part + noise * rng.standard_normal(part.shape) for part in parts[:PROMPT]]
    return np.stack(parts, axis=1)[..., np.newaxis].astype(np.float32)
