"""Reads a set that others have made, for the stage `distill`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from winnow.distill.engine.formats import digest_of, read_pair
from winnow.distill.engine.learned import Distilled
from winnow.distill.engine.real import check_factor, check_images, pixels_of, space_of, split_labels
from winnow.distill.engine.view import DistillView
from winnow.distill.given import GivenParams
from winnow.errors import UserError
from winnow.plan.code import ROOT
from winnow.train.engine.synthetic import SyntheticSet, seen_as

SHOWN = 10
"""How many pictures of a class are drawn."""


def read_given(params: GivenParams, view: DistillView) -> Distilled:
    """Return the set as the workflow's networks see it: by the mean and deviation of the training images.

    Sets that this project made were seen so, whatever `statistics` says, and keep their learned step size and
    their factor.
    """
    assert view.data is not None
    path = _checked("path", params.path, params.sha256, view)
    own, here = seen_as(path), "plain" if view.data.whitening() is None else "zca"
    if own not in (None, here):
        raise UserError(
            f"{view.label}: params.path: {path} was made for networks that see images as `inputs: {own}`"
            f" gives them, but this grid has `inputs: {here}`. Name the set in a grid of its kind."
        )
    made = SyntheticSet.load(path) if own else None
    statistics = "own" if own else params.statistics
    factor = made.factor if made is not None else params.factor
    labels = None
    if params.labels is not None:
        labels = _checked("labels", params.labels, params.labels_sha256 or "", view)
    images, found = read_pair(path, labels, params.experiment, view.data.classes)
    where = f"{view.label}: params.path: {path}"
    check_images(images, tuple(view.real.images.shape[1:]), view.data.name, where)
    check_factor(images, factor, where)
    if len(images) != len(view.start):
        raise UserError(
            f"{where}: holds {len(images)} images, but the share of the data that the arm is given is"
            f" {len(view.start)}. Give the arm the share that the set has: {len(images)} of"
            f" {len(view.real)} examples in `fractions`."
        )
    hard, soft = split_labels(found, view.classes, where)
    pixels = pixels_of(images, params.units)
    if pixels is None:
        pixels = space_of(view.data, statistics).pixels(images.float())
    seen = space_of(view.data, "own")(pixels)
    shown = torch.cat([(hard == label).nonzero().flatten()[:SHOWN] for label in range(view.classes)])
    history = pd.DataFrame({"iteration": pd.Series(dtype="int64"), "loss": pd.Series(dtype="float64")})
    step_size = made.step_size if made is not None else None
    given = SyntheticSet(seen, hard, soft, step_size, factor=factor)
    return Distilled(given, history, seen[shown][None], [0], hard[shown])


def _checked(key: str, name: str, sha256: str, view: DistillView) -> Path:
    """Return where a file is, if it is the one that was meant."""
    path = ROOT / name
    found = digest_of(path)
    if found != sha256:
        what = f"has sha256 {found}" if found else "is not there"
        digest = "sha256" if key == "path" else "labels_sha256"
        raise UserError(
            f"{view.label}: params.{key}: {path} {what}; params.{digest} says {sha256}. Bring that file back,"
            " or name this one's digest in the suite."
        )
    return path
