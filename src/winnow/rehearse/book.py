"""What the specs of a plan say of its jobs: sizes, lengths, and which case each job belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from winnow import registry
from winnow.canonical import canonical_json, sha256_text
from winnow.plan.estimate import split_sizes
from winnow.plan.specs import (
    DistillSpec,
    EvaluateSpec,
    Plugged,
    PrepareSpec,
    Ref,
    SelectSpec,
    SignalSpec,
    Spec,
    TrainSpec,
)
from winnow.rehearse.cases import DistillCase, TrainCase
from winnow.rehearse.measures import Measures, StageMeasure, between
from winnow.rehearse.standin import Look
from winnow.train.engine.loop import Passes
from winnow.train.engine.task import Task

COSTLESS = frozenset({"lr", "schedule", "milestones", "decay", "warmup", "rho", "temperature"})
"""Parameters of trainers that change numbers and no step's work."""


@dataclass(frozen=True)
class _Lengths:
    """The fields by which a training task counts its steps."""

    rows: range
    rounds: int
    epochs: int
    steps_as: int | None
    min_steps: int
    batch_size: int


@dataclass(frozen=True)
class Length:
    """How long one repetition trains: steps, rows shown in all of them, and passes over the subset."""

    steps: int
    rows: float
    epochs: float


@dataclass
class Book:
    """The specs of all jobs by reference, with what earlier cases showed of the later ones."""

    specs: Mapping[Ref, Spec]
    measures: Measures = field(default_factory=Measures)

    def prepared(self, reference: Ref) -> PrepareSpec:
        return cast(PrepareSpec, self.specs[reference])

    def look(self, reference: Ref) -> Look:
        entry = self.prepared(reference).entry
        pixel_bytes = 4 if entry["kind"] == "vectors" else 1
        return Look(
            tuple(entry["shape"] or ()), len(entry["classes"]) or entry["n_classes"] or 1, pixel_bytes
        )

    def sizes(self, reference: Ref) -> dict[str, int]:
        """Return the examples of every split of a prepared dataset."""
        return split_sizes(self.prepared(reference))

    def pool(self, reference: Ref) -> int:
        """Return the number of examples that methods choose from."""
        sizes = self.sizes(reference)
        return sum(sizes[split] for split in self.prepared(reference).pool)

    def transferred(self, spec: EvaluateSpec, splits: Iterable[str]) -> tuple[int, int]:
        """Return the examples of further data that an evaluation encodes, and how many it decodes.

        splits: those of its own data that it encodes. A probe is trained anew on further data.
        """
        shown = {"train", "test"} & {*splits, "test"}
        sizes = {
            reference: sum(self.sizes(reference).get(split, 0) for split in shown)
            for reference in spec.transfer.values()
        }
        decoded = [reference for reference in sizes if self.prepared(reference).entry["kind"] == "benchmark"]
        return sum(sizes.values()), sum(sizes[reference] for reference in decoded)

    def held(self, reference: Ref) -> int:
        """Return the bytes of the pool's images, where jobs hold them: shards are decoded as needed."""
        if self.prepared(reference).entry["reader"] == "webdataset":
            return 0
        return self.pool(reference) * self.look(reference).image_bytes

    def measured(self, reference: Ref) -> int:
        """Return the examples that a trained model is scored on."""
        sizes = self.sizes(reference)
        return sizes.get("test", 0) + sizes.get("validation", 0)

    # -- keys of cases: equal keys share one measurement ------------------------------------------

    def train_case(self, spec: TrainSpec) -> TrainCase:
        """Return the case of a training; without records, an epoch shows all that more of them would."""
        epochs = spec.epochs if spec.trainer.params.get("record") else 1
        return TrainCase(_costing(spec.trainer), spec.model, epochs, spec.batch_size, self.look(spec.data))

    def train_key(self, spec: TrainSpec) -> str:
        return _key("train", vars(self.train_case(spec)))

    def judge_case(self, spec: EvaluateSpec) -> TrainCase:
        """Return the case of a training whose steps are those of the networks that a ranking trains."""
        assert spec.judge is not None
        trainer = _costing(spec.judge.trainer)
        return TrainCase(trainer, spec.judge.model, 1, spec.judge.batch_size, self.look(spec.data))

    def judge_key(self, spec: EvaluateSpec) -> str:
        return _key("train", vars(self.judge_case(spec)))

    def model_key(self, spec: TrainSpec) -> str:
        """Return the key that trained models share which cost the same to run."""
        return _key("model", {"model": spec.model, "look": self.look(spec.data)})

    def proxies(self, spec: SignalSpec) -> list[TrainSpec]:
        found = [self.specs[reference] for reference in spec.uses.values()]
        return [use for use in found if isinstance(use, TrainSpec)]

    def signal_key(self, spec: SignalSpec) -> str:
        arrays = {
            name: self.signal_key(use)
            for name, reference in spec.uses.items()
            if isinstance(use := self.specs[reference], SignalSpec)
        }
        proxy_key = self.model_key if loads_models(spec.signal) else self.train_key
        proxies = [proxy_key(proxy) for proxy in self.proxies(spec)]
        facts = {"signal": spec.signal, "look": self.look(spec.data), "proxies": proxies, "arrays": arrays}
        return _key("signals", facts)

    def select_key(self, spec: SelectSpec) -> str:
        """Return the key of a selection: methods see arrays, so only their columns and types count."""
        return self._select_key(spec, spec.fraction)

    def _select_key(self, spec: SelectSpec, fraction: float | None) -> str:
        arrays = {}
        for name, reference in spec.signals.items():
            like = self.measures.stages.get(self.signal_key(cast(SignalSpec, self.specs[reference])))
            arrays[name] = None if like is None else [like.columns, like.dtype]
        facts = {"method": spec.method, "classes": self.look(spec.data).classes, "arrays": arrays}
        return _key("selection", facts | {"fraction": fraction})

    def family(self, spec: SelectSpec) -> str:
        """Return the key that selections share which differ in their fraction alone."""
        return self._select_key(spec, None)

    def stage_measure(self, spec: SignalSpec | SelectSpec | EvaluateSpec) -> StageMeasure | None:
        """Return what is known of a job, or None. A fraction of the data that was not rehearsed lies between
        the smallest and the largest one, which were.
        """
        found = self.measures.stages.get(self.key(spec))
        if found is not None or not isinstance(spec, SelectSpec) or spec.fraction is None:
            return found
        least, most = self.measures.fractions.get(self.family(spec), (spec.fraction, spec.fraction))
        ends = [self.measures.stages.get(self._select_key(spec, fraction)) for fraction in (least, most)]
        if ends[0] is None or ends[1] is None or least == most:
            return None
        weight = (spec.fraction - least) / (most - least)
        return between(ends[0], ends[1], weight, self.pool(spec.data))

    def distill_case(self, spec: DistillSpec) -> DistillCase | None:
        """Return the case of a distillation; None while the width of its targets is not known, and for sets
        that are read from files.
        """
        method = registry.load("distill", spec.method.name, "spec: method.name")
        if "files" in method.needs(method.params(**spec.method.params)):
            return None
        width, epochs, teacher = None, 0, None
        for name, reference in spec.uses.items():
            use = self.specs[reference]
            if isinstance(use, SignalSpec):
                like = self.measures.stages.get(self.signal_key(use))
                if like is None:
                    return None
                width = like.columns[0]
            elif isinstance(use, TrainSpec) and name.startswith("expert"):
                epochs = use.epochs
            elif isinstance(use, TrainSpec):
                teacher = use.model
        look, n = self.look(spec.data), self.pool(spec.data)
        return DistillCase(spec.method, spec.model, look, n, spec.budget, width, epochs, teacher)

    def distill_key(self, spec: DistillSpec) -> str:
        case = self.distill_case(spec)
        return _key("distill", {} if case is None else vars(case))

    def evaluate_key(self, spec: EvaluateSpec) -> str:
        """Return the key of an evaluation; only protocols that encode images depend on the model."""
        facts: dict[str, Any] = {"protocol": spec.protocol, "classes": self.look(spec.data).classes}
        if encodes(spec.protocol):
            facts["model"] = self.model_key(cast(TrainSpec, self.specs[spec.subject]))
        return _key("evaluate", facts)

    def key(self, spec: Spec) -> str:
        """Return the key of any job that is rehearsed."""
        if isinstance(spec, TrainSpec):
            return self.train_key(spec)
        if isinstance(spec, SignalSpec):
            return self.signal_key(spec)
        if isinstance(spec, SelectSpec):
            return self.select_key(spec)
        if isinstance(spec, DistillSpec):
            return self.distill_key(spec)
        assert isinstance(spec, EvaluateSpec)
        return self.evaluate_key(spec) if spec.judge is None else self.judge_key(spec)

    def set_size(self, spec: EvaluateSpec) -> int:
        """Return the examples of what is ranked, or of the random subsets beside it.

        A selection that decides for itself how many it keeps may keep all.
        """
        subject = self.specs[spec.subject]
        own = subject.budget if isinstance(subject, DistillSpec | SelectSpec) else None
        return spec.budget or own or self.pool(spec.data)

    # -- lengths ----------------------------------------------------------------------------------

    def examples(self, spec: TrainSpec) -> tuple[int, int]:
        """Return the rows of one epoch, and of how many subsets in turn they are (rounds).

        A method that repeats examples decides how many when it runs: as many as on stand-ins here.
        """
        n = self.pool(spec.data)
        if spec.fold is not None:
            return n - round(n / spec.fold[1]), 1
        if spec.synthetic is not None:
            return cast(DistillSpec, self.specs[spec.synthetic]).budget, 1
        if spec.subset is None:
            return n, 1
        chosen = cast(SelectSpec, self.specs[spec.subset])
        seen = self.stage_measure(chosen)
        rounds = seen.rounds if seen else 1
        if registry.load("select", chosen.method.name, "spec: method.name").resamples and seen:
            return round(seen.share * n), rounds
        return spec.budget or chosen.budget or n, rounds

    def length(self, spec: TrainSpec, drop_last: bool) -> Length:
        """Return the length of one repetition, by the counting of the training loop itself."""
        examples, rounds = self.examples(spec)
        task = _Lengths(
            range(examples * rounds), rounds, spec.epochs, spec.steps_as, spec.min_steps, spec.batch_size
        )
        steps = Task.total_steps(cast(Task, task), drop_last)
        passes = Passes(examples * rounds, spec.batch_size, 0, 0, (), rounds, drop_last)
        shown, steps = passes.place(passes.per_epoch - 1)[1].stop, steps * experts_of(spec.trainer)
        return Length(steps, steps / passes.per_epoch * shown, steps / passes.per_epoch)


def encodes(protocol: Plugged) -> bool:
    """Whether a protocol asks for the features of images."""
    plugin = registry.load("evaluate", protocol.name, "spec: protocol.name")
    return "model" in plugin.needs(plugin.params(**protocol.params))


def loads_models(signal: Plugged) -> bool:
    """Whether a signal runs its proxies or experts, and does not only read what their training recorded."""
    plugin = registry.load("signals", signal.name, "spec: signal.name")
    needs = plugin.needs(plugin.params(**signal.params))
    return "experts" in needs or ("model" in needs and not needs["model"].get("recorded", False))


def reads_experts(signal: Plugged) -> bool:
    """Whether a signal runs experts, on labels or on targets."""
    plugin = registry.load("signals", signal.name, "spec: signal.name")
    return "experts" in plugin.needs(plugin.params(**signal.params))


def is_trajectory(trainer: Plugged) -> bool:
    """Whether a trainer keeps the weights of every epoch."""
    plugin = registry.load("train", trainer.name, "spec: trainer.name")
    return "trajectories" in plugin.needs(plugin.params(**trainer.params))


def experts_of(trainer: Plugged) -> int:
    """Return how many networks a repetition trains one after another: several only where they are experts."""
    return int(trainer.params["count"]) if is_trajectory(trainer) else 1


def _costing(trainer: Plugged) -> Plugged:
    """Return a trainer with the parameters that its steps' work depends on."""
    kept = {name: value for name, value in trainer.params.items() if name not in COSTLESS}
    return Plugged(name=trainer.name, params=kept)


def _key(stage: str, facts: Mapping[str, Any]) -> str:
    text = canonical_json({name: _plain(value) for name, value in facts.items()})
    return f"{stage}-{sha256_text(text)[:12]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Plugged):
        return value.model_dump(mode="json")
    if isinstance(value, Look):
        return [list(value.shape), value.classes]
    return value
