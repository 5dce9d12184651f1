"""Specs: everything a stage's result depends on, frozen, validated, and turned into an id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from winnow.canonical import canonical_json, sha256_text

Ref = str  # "<stage>/<id>" of an upstream artefact
Inputs = Literal["plain", "zca"]


class Plugged(BaseModel):
    """A plugin by name with all its parameters resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    params: dict[str, Any] = {}


@dataclass(frozen=True)
class Taught:
    """How a teacher is learned from: images are mixed by CutMix, and both sides softened (SRe2L, RDED)."""

    cutmix: float = 1.0
    temperature: float = 20.0


class Judge(BaseModel):
    """The network and the recipe that a protocol trains networks of its own with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: Plugged
    model: Plugged
    batch_size: int
    taught: Taught | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of an arm that learns from a teacher."""


class Spec(BaseModel):
    """Base of all specs; the id is the slug and eight hex digits of the canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[str]
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after artefacts had been made without them."""

    def slug(self) -> str:
        raise NotImplementedError(type(self).__name__)

    def inputs(self) -> dict[str, Ref]:
        """Upstream artefacts by the name under which the stage knows them."""
        return {}

    def content(self) -> dict[str, Any]:
        """Return the fields as JSON has them; `later` ones are left out while they have their default."""
        fields = type(self).model_fields
        absent = {name for name in self.later if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude=absent)

    def json_text(self) -> str:
        return canonical_json(self.content())

    def id(self, text: str | None = None) -> str:
        """Return the artefact's name; `text` saves writing the canonical JSON again."""
        text = self.json_text() if text is None else text
        return f"{self.slug()}-{sha256_text(f'{self.stage}:{text}')[:8]}"


class Seeded(Spec):
    """A spec whose job loops over some repetitions, each with its own folder `s<seed>`."""

    seeds: tuple[int, ...]
    root_seed: int

    def seed_slug(self) -> str:
        first, last = self.seeds[0], self.seeds[-1]
        return f"s{first}" if first == last else f"s{first}-{last}"


class PrepareSpec(Spec):
    """Decode a dataset's files into arrays; `entry` is its description in `datasets.yaml`.

    `seen` is what trained networks see: images normalised (`plain`), or whitened after it.
    """

    stage: ClassVar[str] = "prepare"
    later: ClassVar[frozenset[str]] = frozenset({"seen"})

    dataset: str
    entry: dict[str, Any]
    limits: dict[str, int]
    holdout: int
    pool: tuple[str, ...]
    root_seed: int
    seen: Inputs = "plain"

    def slug(self) -> str:
        limit = self.limits.get("train")
        name = self.dataset if limit is None else f"{self.dataset}-{limit}"
        return name if self.seen == "plain" else f"{name}-{self.seen}"


class TrainSpec(Seeded):
    """Train one model per repetition on the first `budget` examples of a subset, or on all data.

    It lasts `epochs` passes over what it is given or, for equal-step training, over `steps_as` examples.
    Instead of a part of the data it may be given a `synthetic` set. `targets`, a signal, is what it
    regresses on instead of labels, and `teacher` a trained model whose answers it learns from. `proxy`
    numbers a model that is trained to select by, and has random draws of its own; with `fold` (k, of K) it
    does not see the k-th part of the data. `split` names what it is trained on instead of the pool.
    """

    stage: ClassVar[str] = "train"

    data: Ref
    subset: Ref | None
    synthetic: Ref | None = None
    targets: Ref | None = None
    teacher: Ref | None = None
    budget: int | None
    fraction: float
    trainer: Plugged
    model: Plugged
    epochs: int
    steps_as: int | None
    min_steps: int
    batch_size: int
    proxy: int | None
    fold: tuple[int, int] | None
    split: str | None

    def slug(self) -> str:
        given = self.subset or self.synthetic
        base = name_of(given) if given else f"{name_of(self.data)}-{'proxy' if self.is_proxy else 'full'}"
        share = "" if given is None or "-f0." in base else f"-f{self.fraction:.3g}"
        equal = "-equalsteps" if self.steps_as is not None else ""
        return f"{base}{share}-{self.trainer.name}{equal}-{self.seed_slug()}"

    @property
    def is_proxy(self) -> bool:
        return self.proxy is not None

    def inputs(self) -> dict[str, Ref]:
        others = {"subset": self.subset, "synthetic": self.synthetic, "targets": self.targets}
        others["teacher"] = self.teacher
        return {"data": self.data} | {name: used for name, used in others.items() if used}


class SignalSpec(Seeded):
    """Compute what methods need to see of the data, once."""

    stage: ClassVar[str] = "signals"

    data: Ref
    signal: Plugged
    uses: dict[str, Ref]

    def slug(self) -> str:
        return f"{name_of(self.data)}-{self.signal.name}-{self.seed_slug()}"

    def inputs(self) -> dict[str, Ref]:
        return {"data": self.data} | self.uses


class SelectSpec(Seeded):
    """Choose `budget` examples; `budget` None asks a nested method for its full ordering."""

    stage: ClassVar[str] = "selection"

    data: Ref
    method: Plugged
    variant: str
    budget: int | None
    fraction: float | None
    signals: dict[str, Ref]

    def slug(self) -> str:
        share = "" if self.fraction is None else f"-f{self.fraction:.3g}"
        variant = "" if self.variant == "default" else f"-{self.variant}"
        return f"{name_of(self.data)}-{self.method.name}{variant}{share}-{self.seed_slug()}"

    def inputs(self) -> dict[str, Ref]:
        return {"data": self.data} | self.signals


class DistillSpec(Seeded):
    """Make `budget` synthetic examples that are worth more than real ones.

    They start from the subset `start`. `model` is the network that they are made for. `uses` are expert
    trajectories (`expert0`, ...), a teacher (`model0`), what students regress on instead of labels
    (`targets`).
    """

    stage: ClassVar[str] = "distill"

    data: Ref
    start: Ref
    method: Plugged
    variant: str
    model: Plugged
    budget: int
    fraction: float
    uses: dict[str, Ref]

    def slug(self) -> str:
        variant = "" if self.variant == "default" else f"-{self.variant}"
        return f"{name_of(self.data)}-{self.method.name}{variant}-f{self.fraction:.3g}-{self.seed_slug()}"

    def inputs(self) -> dict[str, Ref]:
        return {"data": self.data, "start": self.start} | self.uses


class EvaluateSpec(Seeded):
    """Measure the subject, trained models, a selection or a synthetic set, with a fixed protocol.

    `budget` cuts a nested selection's full ordering, as `TrainSpec.budget` does; of the data themselves it is
    the number of examples to draw. `transfer` names further datasets that the trained models are measured on.
    `judge` is for a protocol that trains networks itself, and `beside` is the evaluation it compares with.
    """

    stage: ClassVar[str] = "evaluate"

    data: Ref
    subject: Ref
    transfer: dict[str, Ref] = {}
    judge: Judge | None = None
    beside: Ref | None = None
    budget: int | None
    protocol: Plugged
    version: int

    def slug(self) -> str:
        share = "" if self.budget is None else f"-{self.budget}"
        return f"{name_of(self.subject)}{share}-{self.protocol.name}-{self.seed_slug()}"

    def inputs(self) -> dict[str, Ref]:
        others = {f"transfer_{name}": reference for name, reference in self.transfer.items()}
        if self.beside is not None:
            others["beside"] = self.beside
        return {"data": self.data, "subject": self.subject} | others


def name_of(reference: Ref) -> str:
    """Return the readable part of a reference: without stage, digest and repetitions."""
    parts = reference.split("/")[1].split("-")[:-1]
    return "-".join(parts[: next(_seed_position(parts), len(parts))])


def _seed_position(parts: list[str]) -> Iterator[int]:
    return (i for i, part in enumerate(parts) if i > 0 and part[:1] == "s" and part[1:].isdigit())
