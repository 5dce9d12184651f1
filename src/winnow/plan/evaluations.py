"""The evaluations of what an arm trained, chose or made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from winnow import registry
from winnow.errors import UserError, unknown
from winnow.plan.grid import Grid
from winnow.plan.plugins import parameters, plugged
from winnow.plan.specs import EvaluateSpec, Judge, Ref, Taught
from winnow.plan.suite import Measure, Training, Use, merged
from winnow.plan.trainings import Trainings
from winnow.plan.yamlfile import validate

SUBJECTS = {"selection": ("selection",), "synthetic": ("selection", "distill"), "data": ("prepare",)}
"""What a protocol needs -> the stages whose artefacts it looks at; others look at trained models."""


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of one arm."""

    grid: Grid
    trainings: Trainings

    def measures(self, subject: Ref | None, cut: int | None, size: int) -> Iterator[Ref]:
        """Add the protocols that look at what a cell trains on; some look at selections alone."""
        for place, use in enumerate(self.grid.scale.measures if subject is not None else []):
            assert subject is not None
            key = f"measures[{place}]"
            protocol = registry.load("evaluate", use.name, f"{self.grid.where}.{key}.name")
            needs = protocol.needs(parameters(protocol, use.params, f"{self.grid.where}.{key}.params"))
            if not (subject.startswith("distill/") and "selection" in needs):
                yield self.evaluate(subject, use, key, cut, size)

    def evaluate(
        self, subject: Ref, use: Use, key: str, budget: int | None = None, size: int | None = None
    ) -> Ref:
        """Add one evaluation, with the one beside which it stands, of `size` examples of the data."""
        where = f"{self.grid.where}.{key}"
        protocol = registry.load("evaluate", use.name, f"{where}.name")
        needs = self._check_subject(protocol, use, subject.split("/")[0], where)
        judge, models = None, list[registry.Plugin]()
        if "judge" in needs:
            judge = self._judge(use, where)
            models.append(registry.load("models", judge.model.name, where))
        elif isinstance(use, Measure) and use.training:
            raise UserError(f"{where}.training: '{use.name}' trains no networks; remove it.")
        if subject.startswith("train/"):
            models.append(self.trainings.model("training"))
        beside = None
        if "beside" in needs:
            other = registry.load("evaluate", needs["beside"]["protocol"], where)
            known = {name: value for name, value in use.params.items() if name in other.params.model_fields}
            beside = self.evaluate(self.grid.data, _measure(use, other.name, known), key, size)
        spec = EvaluateSpec(
            seeds=self.grid.seeds,
            root_seed=self.grid.config.root_seed,
            data=self.grid.data,
            subject=subject,
            transfer=self.grid.transfer() if subject.startswith("train/") else {},
            judge=judge,
            beside=beside,
            budget=budget,
            protocol=plugged(protocol, use.params, f"{where}.params"),
            version=protocol.version,
        )
        return self.grid.add(spec, protocol, *models)

    def _check_subject(self, protocol: registry.Plugin, use: Use, stage: str, where: str) -> registry.Signals:
        """Return what a protocol needs, once this kind of artefact and the data are known to have it."""
        needs = protocol.needs(parameters(protocol, use.params, f"{where}.params"))
        looks_at = next((stages for need, stages in SUBJECTS.items() if need in needs), ("train",))
        if stage not in looks_at:
            if "data" in needs:
                raise UserError(
                    f"{where}.name: '{use.name}' stands beside protocols that compare with it; name one."
                )
            right = "evaluation" if looks_at == ("train",) else "measures"
            raise UserError(f"{where}.name: '{use.name}' belongs under `{right}`.")
        if stage == "train":
            self._check_transfer(use.name, needs, where)
            if "learned" in needs.get("model", {}):
                self.trainings.check_learned("training", needs["model"]["learned"], f"'{use.name}'")
        scale, entry = self.grid.scale, self.grid.entry
        if scale.targets is not None and stage == "train" and "model" not in needs:
            raise UserError(
                f"{where}.name: '{use.name}' reads predicted classes, but with `targets` models regress; name"
                " a protocol that probes, such as few_label_probe."
            )
        if "validation" in needs:
            self.grid.require_validation(f"'{use.name}'")
        swaps = entry.recaption is not None and entry.recaption.swap is not None
        if "known_noise" in needs and entry.relabel is None and not swaps:
            raise UserError(
                f"{where}.name: '{use.name}' needs clean labels beside the given ones, or captions known to"
                f" be wrong; {entry.name} has neither (no `relabel` or `recaption: {{swap: ...}}` in"
                " datasets.yaml)."
            )
        return needs

    def _check_transfer(self, protocol: str, needs: registry.Signals, where: str) -> None:
        """Check that a protocol can use the datasets of `transfer`, and that those it names are there."""
        grid, about = self.grid, needs.get("transfer", {})
        for name in about.get("names", ()):
            if name not in grid.scale.transfer:
                raise unknown("dataset", name, grid.scale.transfer, f"{where}.params.averages")
        sets = [name for name in grid.scale.transfer if grid.catalogue[name].kind == "benchmark"]
        if sets and not about.get("test_sets", False):
            raise UserError(
                f"{grid.where}.transfer: '{sets[0]}' is for models of images and text, which '{protocol}' is"
                " not about; name zero_shot as `evaluation`, or remove it."
            )

    def _judge(self, use: Use, where: str) -> Judge:
        """Return the network and the recipe of a protocol that trains networks on sets with labels: those of
        the arm's training, with what the measure changes of them.
        """
        grid, own = self.grid, use.training if isinstance(use, Measure) else {}
        if grid.scale.targets is not None and not own:
            raise UserError(
                f"{where}.name: '{use.name}' trains on labels, but the scale has `targets` to regress on."
                f" Give the recipe for labels under {where}.training."
            )
        if list(grid.scale.pool) != ["train"]:
            raise UserError(
                f"{grid.where}.pool: '{use.name}' needs labels of all examples. Accepted: [train]."
            )
        settings, place = self._judged_by(own, where)
        trainer = registry.load("train", settings.trainer.name, f"{place}.trainer.name")
        resolved = plugged(trainer, settings.trainer.params, f"{place}.trainer.params")
        if "sets" not in trainer.needs(trainer.params(**resolved.params)):
            raise UserError(
                f"{where}.name: '{use.name}' trains by the recipe of `training`, and '{trainer.name}' has"
                f" none for synthetic sets ({place}.trainer.name). Name `distilled` there."
            )
        model = registry.load("models", settings.model.name, f"{place}.model.name")
        taught = None
        if "model" in self.trainings.trainer_needs("training"):
            params = self.trainings.plugged_trainer("training").params
            taught = Taught(params["cutmix"], params["temperature"])
        return Judge(
            taught=taught,
            trainer=resolved,
            model=plugged(model, settings.model.params, f"{place}.model.params"),
            batch_size=settings.batch_size,
        )

    def _judged_by(self, own: Mapping[str, Any], where: str) -> tuple[Training, str]:
        """Return the settings of such trainings, and where in the suite they are looked for."""
        settings, place = self.trainings.settings("training"), self.trainings.place("training")
        if "model" in self.trainings.trainer_needs("training"):
            # Labels are learned by the grid's own recipe; `taught` has the arm's.
            settings = settings.model_copy(update={"trainer": self.grid.scale.training.trainer})
        if not own:
            return settings, place
        for key in ("epochs", "min_steps"):
            if key in own:
                raise UserError(f"{where}.training.{key}: such trainings take `steps` of params; remove it.")
        laid = validate(Training, merged(settings.model_dump(), own), f"{where}.training")
        if laid.trainer.params.get("teacher"):
            raise UserError(
                f"{where}.training.trainer.params.teacher: the arm's own `training` says whether a teacher is"
                " learned from; remove it."
            )
        return laid, f"{where}.training"


def _measure(use: Use, name: str, params: dict[str, Any]) -> Measure:
    """Return the protocol that another one stands beside, judged by the same training."""
    return Measure(name=name, params=params, training=use.training if isinstance(use, Measure) else {})
