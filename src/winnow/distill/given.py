"""A set that others have made, from a file: it is read, checked and brought into the units of the workflow.

Forms are those of `scripts/rank.py`: `.pt`, `.npz`, `.safetensors`, or a folder of pictures. Nothing in a
file is run. Values near [0, 1], or up to 255, are pixels; others are what the maker's networks saw, pixels
minus a mean, divided by a deviation, and `statistics` says whose. Every repetition has the same set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from winnow.registry import Params, Signals, plugin

if TYPE_CHECKING:
    from winnow.distill.engine.learned import Distilled
    from winnow.distill.engine.view import DistillView

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class GivenParams(Params):
    """path: of the file or folder, absolute or in the repository. sha256: of it. labels: a second file with
    the labels, where the first has images alone. experiment: which of several sets in a file. factor: each
    image holds factor^2 small ones (DREAM, NCFM), which networks are shown enlarged.
    """

    path: str
    sha256: Digest
    labels: str | None = None
    labels_sha256: Digest | None = None
    experiment: int = Field(default=0, ge=0)
    factor: int = Field(default=1, ge=1)
    units: Literal["auto", "pixels", "network"] = "auto"
    statistics: Literal["published", "own"] = "published"

    @model_validator(mode="after")
    def _labels_are_known(self) -> Self:
        if (self.labels is None) != (self.labels_sha256 is None):
            raise ValueError("labels, labels_sha256: a file of labels has both, and no such file neither")
        return self


def needs(params: GivenParams) -> Signals:
    files = {"path": params.path, "labels": params.labels}
    return {"files": {key: path for key, path in files.items() if path is not None}}


@plugin(params=GivenParams, needs=needs, source="the file's makers")
def distill(params: GivenParams, view: DistillView) -> Distilled:
    """Return the set in the file; refuses another file, size or shape than was asked for."""
    from winnow.distill.engine.files import read_given

    return read_given(params, view)
