"""From a suite and a scale to the specs of every stage, shared wherever content is equal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from winnow import registry
from winnow.canonical import canonical_json
from winnow.errors import UserError, one_of, unknown
from winnow.plan.catalogue import DatasetEntry, varied
from winnow.plan.claims import Length
from winnow.plan.code import ROOT
from winnow.plan.config import Config
from winnow.plan.specs import (
    DistillSpec,
    EvaluateSpec,
    Judge,
    Plugged,
    PrepareSpec,
    Ref,
    SelectSpec,
    SignalSpec,
    Spec,
    TrainSpec,
)
from winnow.plan.suite import Arm, Scale, Start, Suite, Training, Use, merged
from winnow.plan.yamlfile import explain, validate

LARGEST_WHITENED = 64 * 64 * 3
Key = Literal["training", "proxy", "experts"]
"""The trainings that a scale has settings for."""
SUBJECTS = {"selection": ("selection",), "synthetic": ("selection", "distill"), "data": ("prepare",)}
"""What a protocol needs -> the stages whose artefacts it looks at; others look at trained models."""


@dataclass(frozen=True)
class Node:
    """One job: its spec (also as canonical JSON), its id, and the plugin modules whose code it runs."""

    spec: Spec
    text: str
    id: str
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One point of a suite's grid for a chunk of repetitions: what to report, and where it is."""

    arm: str
    method: str
    variant: str
    dataset: str
    fraction: float
    length: str
    report_seeds: tuple[int, ...]
    data: Ref
    evaluate: Ref
    measures: tuple[Ref, ...]
    """Protocols that look at the selection or the synthetic set itself."""
    train: Ref
    select: Ref | None
    synthetic: Ref | None
    upstream: tuple[Ref, ...]
    """Selection's or distillation's own cost: proxies, experts, signals and itself, in this order."""


@dataclass
class Graph:
    """All nodes by reference, and the cells of each suite."""

    nodes: dict[Ref, Node] = field(default_factory=dict)
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    users: dict[Ref, set[str]] = field(default_factory=dict)

    def add(self, suite: str, spec: Spec, *plugins: registry.Plugin) -> Ref:
        text = spec.json_text()
        name = spec.id(text)
        reference = f"{spec.stage}/{name}"
        present = self.nodes.get(reference)
        if present is None:
            self.nodes[reference] = Node(spec, text, name, tuple(plugin.module for plugin in plugins))
        elif present.text != text:
            raise UserError(
                f"{reference}: two different specs have the same id; change root_seed in config.yaml"
            )
        self.users.setdefault(reference, set()).add(suite)
        return reference


def expand(graph: Graph, suite: Suite, config: Config, catalogue: Mapping[str, DatasetEntry]) -> None:
    """Add one suite at the configured scale to the graph."""
    file = f"suites/{suite.name}.yaml"
    if config.scale not in suite.scales:
        raise unknown("scale", config.scale, suite.scales, f"{file}: scales")
    cells: list[Cell] = []
    for label, scale in suite.scales[config.scale].items():
        where, dataset = f"{file}: scales.{config.scale}.{label}", scale.dataset or label
        if dataset not in catalogue:
            raise unknown("dataset", dataset, catalogue, f"{file}: scales.{config.scale}.datasets")
        for name, values in scale.signals.items():
            signal = registry.load("signals", name, f"{where}.signals")
            _parameters(signal, values, f"{where}.signals.{name}")
        entry = varied(catalogue[dataset], scale.options, where)
        for seeds, report in _chunks(scale, config):
            grid = _Grid(graph, suite, config, catalogue, label, entry, scale, seeds, report, where)
            cells.extend(grid.cells())
    graph.cells[suite.name] = cells


def _chunks(scale: Scale, config: Config) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Group repetitions into jobs: whole chunks, so that ids never depend on how many are asked for."""
    asked = scale.seeds if config.seeds is None else config.seeds
    numbers = list(range(asked)) if isinstance(asked, int) else sorted(asked)
    size = scale.seeds_per_job
    for chunk in sorted({number // size for number in numbers}):
        whole = tuple(range(chunk * size, (chunk + 1) * size))
        yield whole, tuple(number for number in numbers if number in whole)


@dataclass
class _Grid:
    """The cells of one dataset and one chunk of repetitions."""

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
    arm_signals: dict[str, tuple[dict[str, Ref], list[Ref]]] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        self.data = self._prepare()
        names = self.scale.arms if self.scale.arms is not None else list(self.suite.arms)
        arms = self.suite.arms.values()
        used = {arm.method for arm in arms} | {arm.start.method for arm in arms if arm.start is not None}
        for method in self.scale.methods:
            if method not in used:
                raise unknown("method", method, used, f"{self.where}.methods")
        for name in names:
            points = list(self._points(self.suite.arms[name], name))
            if not points:
                raise UserError(
                    f"{self.where}: arm '{name}' has no share of the data in this grid. Give it one of "
                    f"{one_of(share for listed in self.scale.fractions.values() for share in listed)} in"
                    " `arm_fractions`, or list the `arms` to run without it."
                )
            for length, fraction in points:
                yield self._cell(name, self.suite.arms[name], fraction, length)

    @property
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

    def _points(self, arm: Arm, name: str) -> Iterator[tuple[Length, float]]:
        if arm.role == "reference":
            yield "epochs", 1.0
            return
        # By default, all data are for methods that resample, and every other share is for the others.
        where = f"suites/{self.suite.name}.yaml: arms.{name}"
        resamples = self._method(arm, where).resamples
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

    def _prepare(self) -> Ref:
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
        return self.graph.add(self.suite.name, spec)

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

    def _cell(self, name: str, arm: Arm, fraction: float, length: Length) -> Cell:
        budget = round_half_up(fraction * self.n)
        upstream: list[Ref] = []
        self.arm, self.arm_where = arm, f"suites/{self.suite.name}.yaml: arms.{name}"
        method = self._method(arm, self.arm_where)
        own = {**self.scale.methods.get(arm.method, {}), **arm.params}
        variant, params = _resolve(method, arm.variant, own, self.arm_where)
        if arm.start is not None and method.room != "distill":
            raise UserError(f"{self.arm_where}.start: '{method.name}' makes no examples; remove this key.")
        subset, synthetic, nested = None, None, method.nested(params)
        if method.room == "distill":
            synthetic = self._distill(method, variant, params, budget, fraction, upstream)
            upstream.append(synthetic)
        elif arm.role != "reference":
            subset = self._select(method, variant, params, None if nested else budget, fraction, upstream)
            upstream.append(subset)
        cut = budget if nested else None
        train = self._train("training", subset, cut, fraction, length, synthetic=synthetic, upstream=upstream)
        return Cell(
            arm=name,
            method=arm.method,
            variant=variant,
            dataset=self.label,
            fraction=fraction,
            length=length,
            report_seeds=self.report,
            data=self.data,
            evaluate=self._evaluate(train, self.scale.evaluation, "evaluation"),
            measures=tuple(self._measures(subset or synthetic, budget if nested else None, budget)),
            train=train,
            select=subset,
            synthetic=synthetic,
            upstream=tuple(dict.fromkeys(upstream)),
        )

    def _measures(self, subject: Ref | None, cut: int | None, size: int) -> Iterator[Ref]:
        """Add the protocols that look at what a cell trains on; some look at selections alone."""
        for place, use in enumerate(self.scale.measures if subject is not None else []):
            assert subject is not None
            key = f"measures[{place}]"
            protocol = registry.load("evaluate", use.name, f"{self.where}.{key}.name")
            needs = protocol.needs(_parameters(protocol, use.params, f"{self.where}.{key}.params"))
            if not (subject.startswith("distill/") and "selection" in needs):
                yield self._evaluate(subject, use, key, cut, size)

    def _evaluate(
        self, subject: Ref, use: Use, key: str, budget: int | None = None, size: int | None = None
    ) -> Ref:
        """Add one evaluation, with the one beside which it stands, of `size` examples of the data."""
        where = f"{self.where}.{key}"
        protocol = registry.load("evaluate", use.name, f"{where}.name")
        needs = self._check_subject(protocol, use, subject.split("/")[0], where)
        models = [self._model("training")] if "judge" in needs or subject.startswith("train/") else []
        judge = self._judge(use.name, where) if "judge" in needs else None
        beside = None
        if "beside" in needs:
            other = registry.load("evaluate", needs["beside"]["protocol"], where)
            known = {name: value for name, value in use.params.items() if name in other.params.model_fields}
            beside = self._evaluate(self.data, Use(name=other.name, params=known), key, size)
        spec = EvaluateSpec(
            seeds=self.seeds,
            root_seed=self.config.root_seed,
            data=self.data,
            subject=subject,
            transfer=self._transfer() if subject.startswith("train/") else {},
            judge=judge,
            beside=beside,
            budget=budget,
            protocol=_plugged(protocol, use.params, f"{where}.params"),
            version=protocol.version,
        )
        return self.graph.add(self.suite.name, spec, protocol, *models)

    def _judge(self, protocol: str, where: str) -> Judge:
        """Return the arm's network and recipe, for a protocol that trains networks on sets with labels."""
        training, owner = self._training("training"), self._owner("training")
        trainer = registry.load("train", training.trainer.name, f"{owner}.training.trainer.name")
        plugged = _plugged(trainer, training.trainer.params, f"{owner}.training.trainer.params")
        if "model" in trainer.needs(trainer.params(**plugged.params)):
            # What a teacher says is no part of a set: the grid's own recipe judges it.
            own = self.scale.training.trainer
            plugged = _plugged(trainer, own.params, f"{self.where}.training.trainer.params")
        if self.scale.targets is not None:
            raise UserError(
                f"{where}.name: '{protocol}' trains on labels, but the scale has `targets` to regress on."
            )
        if list(self.scale.pool) != ["train"]:
            raise UserError(
                f"{self.where}.pool: '{protocol}' needs labels of all examples. Accepted: [train]."
            )
        if "sets" not in trainer.needs(trainer.params(**plugged.params)):
            raise UserError(
                f"{where}.name: '{protocol}' trains by the recipe of `training`, and '{trainer.name}' has"
                f" none for synthetic sets ({owner}.training.trainer.name). Name `distilled` there."
            )
        model = self._model("training")
        return Judge(
            trainer=plugged,
            model=_plugged(model, training.model.params, f"{owner}.training.model.params"),
            batch_size=training.batch_size,
        )

    def _transfer(self) -> dict[str, Ref]:
        """Add the further datasets that trained models are measured on, whole as they are published."""
        found = {}
        for name in self.scale.transfer:
            if name not in self.catalogue:
                raise unknown("dataset", name, self.catalogue, f"{self.where}.transfer")
            entry = self.catalogue[name]
            spec = PrepareSpec(
                dataset=name,
                entry=entry.content(),
                limits={},
                holdout=0,
                pool=("train",),
                root_seed=self.config.root_seed,
            )
            found[name] = self.graph.add(self.suite.name, spec)
        return found

    def _check_transfer(self, protocol: str, needs: registry.Signals, where: str) -> None:
        """Check that a protocol can use the datasets of `transfer`, and that those it names are there."""
        about = needs.get("transfer", {})
        for name in about.get("names", ()):
            if name not in self.scale.transfer:
                raise unknown("dataset", name, self.scale.transfer, f"{where}.params.averages")
        if not about.get("test_sets", False):
            sets = [name for name in self.scale.transfer if self.catalogue[name].kind == "benchmark"]
            if sets:
                raise UserError(
                    f"{self.where}.transfer: '{sets[0]}' is for models of images and text, which '{protocol}'"
                    " is not about; name zero_shot as `evaluation`, or remove it."
                )

    def _check_subject(self, protocol: registry.Plugin, use: Use, stage: str, where: str) -> registry.Signals:
        """Return what a protocol needs, once this kind of artefact and the data are known to have it."""
        needs = protocol.needs(_parameters(protocol, use.params, f"{where}.params"))
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
                self._check_learned("training", needs["model"]["learned"], f"'{use.name}'")
        regresses = self.scale.targets is not None and stage == "train"
        if regresses and "model" not in needs:
            raise UserError(
                f"{where}.name: '{use.name}' reads predicted classes, but with `targets` models regress; name"
                " a protocol that probes, such as few_label_probe."
            )
        if "validation" in needs and not (self.scale.holdout or "validation" in self.entry.splits):
            raise UserError(
                f"{where}.name: '{use.name}' needs a validation split, which {self.entry.name} does not have."
                " Set `holdout` to a number of examples."
            )
        swaps = self.entry.recaption is not None and self.entry.recaption.swap is not None
        if "known_noise" in needs and self.entry.relabel is None and not swaps:
            raise UserError(
                f"{where}.name: '{use.name}' needs clean labels beside the given ones, or captions known to"
                f" be wrong; {self.entry.name} has neither (no `relabel` or `recaption: {{swap: ...}}` in"
                " datasets.yaml)."
            )
        return needs

    def _select(
        self,
        method: registry.Plugin,
        variant: str,
        params: registry.Params,
        budget: int | None,
        fraction: float,
        upstream: list[Ref],
    ) -> Ref:
        if self.arm_where not in self.arm_signals:
            self.arm_signals[self.arm_where] = self._signals(method, params)
        signals, before = self.arm_signals[self.arm_where]
        upstream += before
        spec = SelectSpec(
            seeds=self.seeds,
            root_seed=self.config.root_seed,
            data=self.data,
            method=Plugged(name=method.name, params=params.model_dump(mode="json")),
            variant=variant,
            budget=budget,
            fraction=None if budget is None else fraction,
            signals=signals,
        )
        return self.graph.add(self.suite.name, spec, method)

    def _method(self, arm: Arm, where: str) -> registry.Plugin:
        """Return an arm's method: of selection, or of distillation."""
        room = "distill" if arm.method in registry.modules("distill") else "select"
        return registry.load(room, arm.method, f"{where}.method")

    def _distill(
        self,
        method: registry.Plugin,
        variant: str,
        params: registry.Params,
        budget: int,
        fraction: float,
        upstream: list[Ref],
    ) -> Ref:
        """Add a distillation with the subset that it starts from and all that it needs."""
        start, where, needs = self._start(budget, fraction, upstream), self.arm_where, method.needs(params)
        if self.scale.targets is not None and "targets" not in needs:
            raise UserError(
                f"{where}.method: '{method.name}' distils labels, but the scale has `targets` to regress on"
                f" ({self.where}). Leave the arm out of this scale, or remove `targets`."
            )
        # The scale's model: an arm that trains another one shows whether the set transfers to it.
        own_model = self.scale.training.model
        model = registry.load("models", own_model.name, f"{self.where}.training.model.name")
        plugged = _plugged(model, own_model.params, f"{self.where}.training.model.params")
        uses: dict[str, Ref] = {}
        plugins = [method, model]
        for need in needs:
            if need == "experts":
                self._check_experts(plugged)
                uses |= {f"expert{number}": one for number, one in enumerate(self._experts(upstream))}
            elif need == "targets":
                uses |= self._targets(upstream)
            elif need == "model":
                uses["model0"] = self._teacher()
                plugins.append(self._model("proxy"))
                upstream.append(uses["model0"])
            elif need == "files":
                _check_files(needs[need], f"{where}.params")
            else:
                accepted = ("experts", "files", "model", "targets")
                raise unknown("need", need, accepted, f"{where}.method: '{method.name}'")
        spec = DistillSpec(
            seeds=self.seeds,
            root_seed=self.config.root_seed,
            data=self.data,
            start=start,
            method=Plugged(name=method.name, params=params.model_dump(mode="json")),
            variant=variant,
            model=plugged,
            budget=budget,
            fraction=fraction,
            uses=uses,
        )
        return self.graph.add(self.suite.name, spec, *plugins)

    def _start(self, budget: int, fraction: float, upstream: list[Ref]) -> Ref:
        """Add the selection of the real examples that a distillation starts from."""
        begin, where = self.arm.start or Start(), f"{self.arm_where}.start"
        starter = registry.load("select", begin.method, f"{where}.method")
        if starter.resamples or starter.name == "full":
            raise UserError(f"{where}.method: '{starter.name}' chooses no subset; name a method that does.")
        own = {**self.scale.methods.get(begin.method, {}), **begin.params}
        kind, params = _resolve(starter, begin.variant, own, where)
        start = self._select(starter, kind, params, budget, fraction, upstream)
        upstream.append(start)
        return start

    def _check_experts(self, student: Plugged) -> None:
        """Refuse experts of another model than the students that are to follow them."""
        if self.scale.experts is None:
            return
        use = self._training("experts").model
        expert = _plugged(
            self._model("experts"), use.params, f"{self._owner('experts')}.experts.model.params"
        )
        if expert != student:
            raise UserError(
                f"{self._owner('experts')}.experts.model: experts and students have to be the same network;"
                " give `experts` and `training` of the scale the same model."
            )

    def _experts(self, upstream: list[Ref]) -> list[Ref]:
        """Add the trainings whose trajectories are matched."""
        if self.scale.experts is None:
            raise UserError(
                f"{self.where}.experts: missing, but an arm needs expert trajectories ({self.arm_where})."
                " Give a training whose trainer is `experts`."
            )
        found = [
            self._train("experts", None, None, 1.0, "epochs", proxy=number, upstream=upstream)
            for number in range(self.scale.expert_jobs)
        ]
        upstream += found
        return found

    def _targets(self, upstream: list[Ref]) -> dict[str, Ref]:
        """Add the signal that models regress on instead of labels, if there is one, by name."""
        use = self.scale.targets
        if use is None:
            return {}
        signal = registry.load("signals", use.name, f"{self.where}.targets.name")
        if "experts" in signal.needs(_parameters(signal, use.params, f"{self.where}.targets.params")):
            raise UserError(
                f"{self.where}.targets.name: '{use.name}' is made by experts, which need targets."
            )
        return {"targets": self._signal(use.name, use.params, {}, f"{self.where}.targets", upstream)}

    def _signals(self, method: registry.Plugin, params: registry.Params) -> tuple[dict[str, Ref], list[Ref]]:
        """Add the signals of an arm, the same at every fraction; returns them and all that they took."""
        arm, where = self.arm, self.arm_where
        needs = {name: {**own, **arm.signals.get(name, {})} for name, own in method.needs(params).items()}
        for name in arm.signals:
            if name not in needs:
                raise unknown("signal", name, needs, f"{where}.signals")
        upstream: list[Ref] = []
        signals = {
            name: self._signal(name, own, arm.signals, f"{where}.signals.{name}", upstream)
            for name, own in needs.items()
        }
        return signals, upstream

    def _signal(
        self, name: str, own: Mapping[str, Any], overrides: Mapping[str, Any], where: str, upstream: list[Ref]
    ) -> Ref:
        """Add one signal and all that it needs; `model` stands for one proxy or several."""
        signal = registry.load("signals", name, where)
        plugged = _plugged(signal, {**self.scale.signals.get(name, {}), **own}, where)
        params = signal.params(**plugged.params)
        uses: dict[str, Ref] = {}
        plugins = [signal]
        for need, settings in signal.needs(params).items():
            if need == "model":
                proxies = self._proxies(**settings)
                uses |= {f"model{number}": proxy for number, proxy in enumerate(proxies)}
                plugins.append(self._model("proxy"))
                upstream += proxies
            elif need == "experts":
                uses |= {f"model{number}": one for number, one in enumerate(self._experts(upstream))}
                uses |= self._targets(upstream)
                plugins.append(self._model("experts"))
            else:
                merged = {**settings, **overrides.get(need, {})}
                uses[need] = self._signal(need, merged, overrides, where, upstream)
        spec = SignalSpec(
            seeds=self.seeds, root_seed=self.config.root_seed, data=self.data, signal=plugged, uses=uses
        )
        reference = self.graph.add(self.suite.name, spec, *plugins)
        upstream.append(reference)
        return reference

    def _proxies(
        self,
        learned: str | None = None,
        named: bool = False,
        count: int = 1,
        folds: int = 0,
        recorded: bool = False,
        variants: Sequence[Mapping[str, Any]] = (),
    ) -> list[Ref]:
        """Add `count` independent proxies, `folds` that each leave out another part of the data, or
        `variants`.

        A variant is trained for a `share` of the epochs, or on another `split` than the pool. `learned` is
        what the proxy has to have been trained on: labels, for classes, or captions, for texts. `named`: it
        is asked for the names of the data's classes.
        """
        trainer = self._training("proxy").trainer
        if learned is not None:
            self._check_learned("proxy", learned, f"arms: '{self.arm.label}'")
        if named and not self.entry.classes:
            raise UserError(
                f"{self.where}.signals: '{self.arm.label}' ({self.arm_where}) compares with the names of"
                f" classes, and {self.entry.name} has none. Set `names: imagenet` of latent_classes and of"
                " label_similarity, or leave the arm out."
            )
        if recorded and not trainer.params.get("record"):
            raise UserError(
                f"{self.where}.proxy.trainer.params.record: '{trainer.name}' records nothing, but an arm"
                " needs what happened to every example. Name a supervised trainer and set record: true."
            )
        kinds: list[dict[str, Any]] = [{"proxy": number} for number in range(count)]
        if folds:
            kinds = [{"proxy": fold, "fold": (fold, folds)} for fold in range(folds)]
        if variants:
            kinds = [{"proxy": 0, **self._variant(**settings)} for settings in variants]
        return [self._train("proxy", None, None, 1.0, "epochs", **kind) for kind in kinds]

    def _teacher(self) -> Ref:
        """Add the proxy whose answers are learned from; it sees what the students see."""
        if self.scale.inputs == "zca":
            raise UserError(
                f"{self.where}.inputs: zca is for what is distilled and trained; '{self.arm.label}'"
                f" ({self.arm_where}) asks a proxy, which sees plain images. Leave the arm out of this grid."
            )
        return self._proxies(learned="labels")[0]

    def _variant(self, share: float = 1.0, split: str = "pool") -> dict[str, Any]:
        if split == "pool":
            return {"share": share}
        if not self.scale.holdout and split not in self.entry.splits:
            raise UserError(
                f"{self.where}.holdout: an arm trains a proxy on held-out examples, but {self.entry.name} has"
                f" no split '{split}'. Set `holdout` to their number."
            )
        return {"share": share, "split": split}

    def _train(
        self,
        key: Key,
        subset: Ref | None,
        budget: int | None,
        fraction: float,
        length: Length,
        proxy: int | None = None,
        fold: tuple[int, int] | None = None,
        share: float = 1.0,
        split: str | None = None,
        synthetic: Ref | None = None,
        upstream: list[Ref] | None = None,
    ) -> Ref:
        """Add one training with the settings under `key` of the scale and the arm."""
        training, where = self._training(key), f"{self._owner(key)}.{key}"
        trainer = registry.load("train", training.trainer.name, f"{where}.trainer.name")
        model, plugged = (
            self._model(key),
            _plugged(trainer, training.trainer.params, f"{where}.trainer.params"),
        )
        needs = trainer.needs(trainer.params(**plugged.params))
        self._check_trainer(key, trainer.name, needs, synthetic is not None, where)
        targets = None
        if "targets" in needs and synthetic is None and key != "proxy":
            targets = self._targets([] if upstream is None else upstream).get("targets")
        teacher, plugins = None, [trainer, model]
        if "model" in needs and key == "training":
            teacher = self._teacher()
            plugins.append(self._model("proxy"))
            if upstream is not None:
                upstream.append(teacher)
        spec = TrainSpec(
            seeds=self.seeds,
            root_seed=self.config.root_seed,
            data=self.data,
            subset=subset,
            synthetic=synthetic,
            targets=targets,
            teacher=teacher,
            budget=budget if subset else None,
            fraction=fraction,
            trainer=plugged,
            model=_plugged(model, training.model.params, f"{where}.model.params"),
            epochs=max(1, round_half_up(share * training.epochs)),
            steps_as=self.n if length == "steps" else None,
            min_steps=training.min_steps,
            batch_size=training.batch_size,
            proxy=proxy,
            fold=fold,
            split=split,
        )
        return self.graph.add(self.suite.name, spec, *plugins)

    def _check_trainer(
        self, key: Key, name: str, needs: registry.Signals, is_synthetic: bool, where: str
    ) -> None:
        """Refuse a trainer that cannot do what is asked of it under this key."""
        if (key == "experts") != ("trajectories" in needs):
            wrong = "writes no model" if "trajectories" in needs else "keeps no trajectories; name `experts`"
            raise UserError(f"{where}.trainer.name: '{name}' {wrong}.")
        if self.scale.inputs == "zca" and key == "proxy" and "whitening" in needs:
            raise UserError(
                f"{where}.trainer.name: '{name}' would see whitened images, but proxies choose by plain ones;"
                " name `supervised` or a self-supervised trainer."
            )
        if self.scale.inputs == "zca" and key != "proxy" and "whitening" not in needs:
            raise UserError(
                f"{where}.trainer.name: '{name}' shows networks plain images only, but `inputs` is zca; name"
                " `distilled` (under `experts`, `experts`), or set `inputs: plain`."
            )
        if "labels" in needs and self.scale.targets is None and not self.entry.class_count:
            raise UserError(
                f"{where}.trainer.name: '{name}' learns labels, and {self.entry.name} has no classes in"
                " datasets.yaml. Name another trainer, or `classes` or `n_classes` there."
            )
        regresses = self.scale.targets is not None and key == "training"
        if (is_synthetic or regresses) and "sets" not in needs:
            raise UserError(
                f"{where}.trainer.name: '{name}' trains on real images with labels only; name `distilled`"
                " where there are synthetic sets or `targets`."
            )

    def _check_learned(self, key: Key, learned: str, asker: str) -> None:
        """Refuse a trainer whose models cannot be asked for classes (labels) or about texts (captions)."""
        where, use = f"{self._owner(key)}.{key}.trainer", self._training(key).trainer
        trainer = registry.load("train", use.name, f"{where}.name")
        if learned not in trainer.needs(_parameters(trainer, use.params, f"{where}.params")):
            right = "clip" if learned == "captions" else "supervised"
            raise UserError(
                f"{where}.name: '{use.name}' learns no {learned}, which {asker} asks its models about; name"
                f" `{right}`."
            )

    def _model(self, key: Key) -> registry.Plugin:
        return registry.load("models", self._training(key).model.name, f"{self._owner(key)}.{key}.model.name")

    def _owner(self, key: Key) -> str:
        """Return the place in the suite that a mistake in these settings is looked for."""
        return self.arm_where if getattr(self.arm, key, None) else self.where

    def _training(self, key: Key) -> Training:
        own: dict[str, Any] = getattr(self.arm, key, {})
        base: Training = getattr(self.scale, key)
        if not own:
            return base
        return validate(Training, merged(base.model_dump(), own), self.arm_where, at=key)


def _resolve(
    method: registry.Plugin, variant: str | None, own: Mapping[str, Any], where: str
) -> tuple[str, registry.Params]:
    name = method.default_variant if variant is None else variant
    if name not in method.variants:
        raise unknown(f"variant of {method.name}", name, method.variants, f"{where}.variant")
    return name, _parameters(method, {**method.variants[name], **own}, f"{where}.params")


def _parameters(plugin: registry.Plugin, values: Mapping[str, Any], where: str) -> registry.Params:
    try:
        return plugin.params(**values)
    except ValidationError as error:
        raise explain(error, plugin.params, where) from error


def _check_files(files: Mapping[str, str], where: str) -> None:
    """Refuse files that are not there; files: parameter -> path, absolute or in the repository."""
    for key, path in files.items():
        if not (ROOT / path).exists():
            raise UserError(f"{where}.{key}: '{path}' is not there (looked for at {ROOT / path}).")


def _plugged(plugin: registry.Plugin, values: Mapping[str, Any], where: str) -> Plugged:
    return Plugged(name=plugin.name, params=_parameters(plugin, values, where).model_dump(mode="json"))


def round_half_up(value: float) -> int:
    """Return the nearest integer, halves up (1e-9 absorbs the binary error of a decimal fraction)."""
    return int(value + 0.5 + 1e-9)


def cells_text(cells: list[Cell]) -> str:
    """Return the canonical text of a suite's cells, the identity of everything drawn from them."""
    return canonical_json([vars(cell) for cell in cells])
