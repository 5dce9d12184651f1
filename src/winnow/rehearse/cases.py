"""What is rehearsed: jobs that differ only in size, seed or subset are one case. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from winnow.plan.specs import Plugged, Ref, TrainSpec
from winnow.rehearse.measures import StageMeasure
from winnow.rehearse.standin import Look, data_reference

EXAMPLES = 64
"""Images of a stand-in training."""


@dataclass(frozen=True)
class TrainCase:
    """A trainer with its model, on images that look alike, at one batch size."""

    trainer: Plugged
    model: Plugged
    epochs: int
    batch_size: int
    look: Look

    def spec(self) -> TrainSpec:
        """Return the spec of a stand-in job: two repetitions on all data."""
        return TrainSpec(
            seeds=(0, 1),
            root_seed=0,
            data=data_reference(self.look, EXAMPLES),
            subset=None,
            budget=None,
            fraction=1.0,
            trainer=self.trainer,
            model=self.model,
            epochs=self.epochs,
            steps_as=None,
            min_steps=0,
            batch_size=self.batch_size,
            proxy=None,
            fold=None,
            split=None,
        )

    @property
    def reference(self) -> Ref:
        """The stand-in training's place in the store."""
        return f"train/{self.spec().id()}"


@dataclass(frozen=True)
class DistillCase:
    """A method of distillation with its network, on n images that look alike, for `budget` synthetic ones.

    width: of what students regress on, None for labels. epochs: of expert trajectories, 0 where it has none.
    teacher: the network that it asks, or None.
    """

    method: Plugged
    model: Plugged
    look: Look
    n: int
    budget: int
    width: int | None
    epochs: int
    teacher: Plugged | None


@dataclass(frozen=True)
class SignalCase:
    """One signal on images that look alike, by as many stand-in proxies, or from other signals.

    proxies: references of stand-in trainings, which the signal `runs` or whose records it reads. arrays:
    measured signals with the key of their case. n: the largest pool of the plan, here and below.
    """

    signal: Plugged
    look: Look
    proxies: tuple[Ref, ...]
    runs: bool
    arrays: dict[str, tuple[str, StageMeasure]]
    n: int


@dataclass(frozen=True)
class SelectCase:
    """One method at one share of n examples; `fraction` None asks for the full ordering."""

    method: Plugged
    variant: str
    look: Look
    signals: dict[str, tuple[str, StageMeasure]]
    n: int
    fraction: float | None


@dataclass(frozen=True)
class EvaluateCase:
    """One protocol on trained models with `width` features, or on a selection."""

    protocol: Plugged
    version: int
    look: Look
    trained: Ref | None
    width: int
    n: int
