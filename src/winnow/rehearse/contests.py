"""How much a ranking trains: the networks of its arms, by their number, steps and examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from winnow import registry
from winnow.distill.engine.ranking import Arm, Options, arms_of
from winnow.evaluate.engine.ranking_params import ContestParams
from winnow.plan.specs import DistillSpec, EvaluateSpec, Taught


@dataclass(frozen=True)
class Trainings:
    """Of one arm and repetition: `tried` networks, one per learning rate, of which one is among the `kept`
    ones that are tested; all of so many `steps`. on_all: on all data, and not on as many examples as the set
    has. teach: whether the kept ones say what they see in all data. taught: whether a network answers for
    every image that they are shown.
    """

    tried: int
    kept: int
    steps: int
    on_all: bool
    teach: bool
    taught: bool = False

    @property
    def networks(self) -> int:
        return self.tried + self.kept - 1


def trainings_of(spec: EvaluateSpec, subject: object) -> list[Trainings]:
    """Return what one repetition trains; subject: the spec of what is ranked."""
    plugin = registry.load("evaluate", spec.protocol.name, "spec: protocol.name")
    params = cast(ContestParams, plugin.params(**spec.protocol.params))
    teach = params.soft_labels and spec.beside is None
    return [
        Trainings(
            tried=len(params.rates),
            kept=params.networks,
            steps=(params.full_steps or params.steps) if arm.data == "full" else params.steps,
            on_all=arm.data == "full",
            teach=teach and arm.data == "full",
            taught=arm.labels == "taught",
        )
        for arm in _arms(params, spec, subject)
    ]


def _arms(params: ContestParams, spec: EvaluateSpec, subject: object) -> Iterable[Arm]:
    """Return the set's own arms, or those of the real images that it stands beside."""
    taught = Taught() if spec.judge is not None and spec.judge.taught is not None else None
    options = Options(augmentation=params.plain, taught=taught)
    if spec.beside is not None:
        is_soft = params.soft_labels and isinstance(subject, DistillSpec) and _learns_labels(subject)
        return [arm for arm in arms_of(is_soft, options) if arm.data == "synthetic"]
    kinds = (False, True) if params.soft_labels else (False,)
    arms = dict.fromkeys(arm for is_soft in kinds for arm in arms_of(is_soft, options))
    return [arm for arm in arms if arm.data != "synthetic"]


def _learns_labels(spec: DistillSpec) -> bool:
    """Whether the labels of a set become soft ones; of sets in files it is not known, and taken to be so."""
    params = spec.method.params
    return "path" in params or params.get("labels") == "experts" or params.get("lr_labels", 0) > 0
