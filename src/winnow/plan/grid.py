"""One dataset of a suite at a scale: what all arms share, and which points of the grid each one has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from winnow import registry
from winnow.errors import UserError, unknown
from winnow.plan.catalogue import DatasetEntry
from winnow.plan.claims import Length
from winnow.plan.config import Config
from winnow.plan.graph import Graph
from winnow.plan.specs import PrepareSpec, Ref, Spec
from winnow.plan.suite import Arm, Scale, Suite, Training, merged
from winnow.plan.yamlfile import validate

LARGEST_WHITENED = 64 * 64 * 3


@dataclass(frozen=True)
class Grid:
    """One dataset, under its `label` in the suite, for one chunk of repetitions.

    `seeds` are those of the chunk's jobs, `report` those asked for; `where` is the grid's place in the suite.
    """

    graph: Graph
    suite: Suite
    config: Config
    catalogue: Mapping[str, DatasetEntry]
    label: str
    entry: DatasetEntry
    scale: Scale
    seeds: tuple[int, ...]
    report: tuple[int, ...]
    where: str

    def add(self, spec: Spec, *plugins: registry.Plugin) -> Ref:
        return self.graph.add(self.suite.name, spec, *plugins)

    def arm_where(self, name: str) -> str:
        return f"suites/{self.suite.name}.yaml: arms.{name}"

    def arm(self, name: str) -> Arm:
        """Return an arm as this grid runs it."""
        arm, own = self.suite.arms[name], self.scale.arm_trainings.get(name, {})
        changed = {str(key): merged(getattr(arm, key), value) for key, value in own.items()}
        for key, settings in changed.items():
            base = getattr(self.scale, key)
            if base is None:
                raise UserError(f"{self.where}.arm_trainings.{name}.{key}: the grid has no `{key}`.")
            whole = merged(base.model_dump(), settings)
            validate(Training, whole, f"{self.where}.arm_trainings.{name}", at=key)
        return arm.model_copy(update=changed) if changed else arm

    @cached_property
    def data(self) -> Ref:
        """The prepared data."""
        if self.scale.inputs == "zca":
            self._check_whitening()
        spec = PrepareSpec(
            dataset=self.entry.name,
            entry=self.entry.content(),
            limits={str(split): kept for split, kept in self.scale.limits.items()},
            holdout=self.scale.holdout,
            pool=tuple(self.scale.pool),
            root_seed=self.config.root_seed,
            seen=self.scale.inputs,
        )
        return self.add(spec)

    def require_validation(self, asker: str) -> None:
        """Refuse what asks for a validation split of data that have none."""
        if not (self.scale.holdout or "validation" in self.entry.splits):
            raise UserError(
                f"{self.where}.holdout: {asker} needs a validation split, which {self.entry.name} does not"
                " have. Set this to a number of examples to hold out."
            )

    def transfer(self) -> dict[str, Ref]:
        """Add the further datasets that trained models are measured on."""
        return {name: self.other(name, "transfer") for name in self.scale.transfer}

    def other(self, name: str, key: str) -> Ref:
        """Add another dataset, whole as it is published; key: where the grid names it."""
        if name not in self.catalogue:
            raise unknown("dataset", name, self.catalogue, f"{self.where}.{key}")
        spec = PrepareSpec(
            dataset=name,
            entry=self.catalogue[name].content(),
            limits={},
            holdout=0,
            pool=("train",),
            root_seed=self.config.root_seed,
        )
        return self.add(spec)

    def target_images(self) -> Ref | None:
        """Add the data whose training images stand for the target; None: the validation split does."""
        name = self.scale.target_images
        if name is None:
            return None
        entry = self.catalogue.get(name)
        if entry is not None and entry.kind not in ("images", "pairs"):
            raise UserError(f"{self.where}.target_images: {name} has no training images. Name one that has.")
        return self.other(name, "target_images")

    def clean_pairs(self) -> Ref | None:
        """Add the data that filter networks are trained on; None: the validation split is."""
        name = self.scale.clean_pairs
        if name is None:
            return None
        entry, shape = self.catalogue.get(name), self.entry.shape
        if entry is not None and (entry.kind, entry.shape) != ("pairs", shape):
            raise UserError(
                f"{self.where}.clean_pairs: {name} has no pairs with images of {shape}, the shape of"
                f" {self.entry.name}. Name one that has."
            )
        return self.other(name, "clean_pairs")

    @cached_property
    def n(self) -> int:
        """Examples in the pool that methods choose from."""
        count = 0
        for split in self.scale.pool:
            if split not in self.entry.splits:
                raise unknown("split", split, self.entry.splits, f"{self.where}.pool")
            count += self._kept() if split == "train" else self.entry.splits[split]
        return count

    def _kept(self) -> int:
        """Return how many training examples the limit and the held-out part leave."""
        holdout, total = self.scale.holdout, self.entry.splits["train"]
        if holdout >= total:
            raise UserError(
                f"{self.where}.holdout: {holdout} examples asked for, but {self.entry.name} has {total}. "
                f"Accepted: 0 to {total - 1}."
            )
        if holdout and "validation" in self.entry.splits:
            raise UserError(
                f"{self.where}.holdout: {self.entry.name} has a validation split of its own; remove this key."
            )
        kept = self.scale.limits.get("train", total - holdout)
        if not 1 <= kept <= total - holdout:
            held = f" and {holdout} held out" if holdout else ""
            raise UserError(
                f"{self.where}.limits.train: {kept} examples asked for{held}, but {self.entry.name} "
                f"has {total}. Accepted: 1 to {total - holdout}."
            )
        return kept

    def points(self, name: str) -> Iterator[tuple[Length, float]]:
        """Yield the lengths and shares of an arm's cells."""
        arm, where = self.arm(name), self.arm_where(name)
        if arm.role == "reference":
            yield "epochs", 1.0
            return
        # By default, all data are for methods that resample, and every other share is for the others.
        resamples = self.method(arm, where).resamples
        own = self.scale.arm_fractions.get(name, arm.fractions)
        for length in arm.lengths:
            for fraction in self.scale.fractions.get(length, []):
                if (fraction == 1) != resamples if own is None else fraction not in own:
                    continue
                if resamples and fraction != 1:
                    raise UserError(
                        f"{where}.fractions: '{arm.method}' repeats examples of the whole pool."
                        " Accepted: [1.0]."
                    )
                if round_half_up(fraction * self.n) < 1:
                    raise UserError(
                        f"{self.where}.fractions.{length}: impossible budget: {fraction} of {self.n} "
                        f"examples is none (arm {name}). Accepted: at least {1 / self.n:.2g}."
                    )
                yield length, fraction

    def method(self, arm: Arm, where: str) -> registry.Plugin:
        """Return an arm's method: of selection, or of distillation."""
        room = "distill" if arm.method in registry.modules("distill") else "select"
        return registry.load(room, arm.method, f"{where}.method")

    def _check_whitening(self) -> None:
        """Refuse data that cannot be whitened: d numbers of an image take d^2 of the matrix."""
        size = math.prod(self.entry.shape or (0,))
        if self.entry.kind != "images" or size > LARGEST_WHITENED:
            found = f"{size} numbers each" if self.entry.kind == "images" else f"kind '{self.entry.kind}'"
            raise UserError(
                f"{self.where}.inputs: zca whitens images of at most {LARGEST_WHITENED} numbers each;"
                f" {self.entry.name} has {found}. Set `inputs: plain`."
            )
        if self.scale.transfer:
            raise UserError(
                f"{self.where}.transfer: with `inputs: zca` models see images whitened for {self.entry.name};"
                " remove one of the two."
            )


def round_half_up(value: float) -> int:
    """Return the nearest integer, halves up (1e-9 absorbs the binary error of a decimal fraction)."""
    return int(value + 0.5 + 1e-9)
