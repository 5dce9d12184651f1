"""The trainings of one arm, and the signals that methods read off trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from winnow import registry
from winnow.errors import UserError, unknown
from winnow.plan.claims import Length
from winnow.plan.grid import Grid, round_half_up
from winnow.plan.plugins import parameters, plugged
from winnow.plan.specs import Plugged, Ref, SignalSpec, TrainSpec
from winnow.plan.suite import Arm, Training, merged
from winnow.plan.yamlfile import validate

Key = Literal["training", "proxy", "experts"]
"""The trainings that a scale has settings for."""


@dataclass(frozen=True)
class Trainings:
    """What one arm trains and asks trained models; `upstream` lists gather what a result took beside itself.

    `where` is the arm's place in the suite.
    """

    grid: Grid
    arm: Arm
    where: str
    _settings: dict[Key, Training] = field(default_factory=dict, init=False, repr=False, compare=False)
    _trainers: dict[Key, Plugged] = field(default_factory=dict, init=False, repr=False, compare=False)

    # -- settings -------------------------------------------------------------------------------

    def settings(self, key: Key) -> Training:
        """Return the scale's settings under `key`, with the arm's laid over them."""
        own: dict[str, Any] = getattr(self.arm, key, {})
        base: Training = getattr(self.grid.scale, key)
        if not own:
            return base
        if key not in self._settings:
            self._settings[key] = validate(Training, merged(base.model_dump(), own), self.where, at=key)
        return self._settings[key]

    def place(self, key: Key) -> str:
        """Return where in the suite a mistake in these settings is looked for."""
        owner = self.where if getattr(self.arm, key, None) else self.grid.where
        return f"{owner}.{key}"

    def model(self, key: Key) -> registry.Plugin:
        return registry.load("models", self.settings(key).model.name, f"{self.place(key)}.model.name")

    def plugged_model(self, key: Key) -> Plugged:
        return plugged(self.model(key), self.settings(key).model.params, f"{self.place(key)}.model.params")

    def trainer(self, key: Key) -> registry.Plugin:
        return registry.load("train", self.settings(key).trainer.name, f"{self.place(key)}.trainer.name")

    def plugged_trainer(self, key: Key) -> Plugged:
        if key not in self._trainers:
            params = self.settings(key).trainer.params
            self._trainers[key] = plugged(self.trainer(key), params, f"{self.place(key)}.trainer.params")
        return self._trainers[key]

    def trainer_needs(self, key: Key) -> registry.Signals:
        trainer = self.trainer(key)
        return trainer.needs(trainer.params(**self.plugged_trainer(key).params))

    # -- trainings ------------------------------------------------------------------------------

    def train(
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
        data: Ref | None = None,
    ) -> Ref:
        """Add one training with the settings under `key` of the scale and the arm; data: other data."""
        training, needs = self.settings(key), self.trainer_needs(key)
        self._check_trainer(key, training.trainer.name, needs, synthetic is not None)
        targets = None
        if "targets" in needs and synthetic is None and key != "proxy":
            targets = self.targets([] if upstream is None else upstream).get("targets")
        teacher, plugins = None, [self.trainer(key), self.model(key)]
        if "model" in needs and key == "training":
            teacher = self.teacher()
            plugins.append(self.model("proxy"))
            if upstream is not None:
                upstream.append(teacher)
        spec = TrainSpec(
            seeds=self.grid.seeds,
            root_seed=self.grid.config.root_seed,
            data=self.grid.data if data is None else data,
            subset=subset,
            synthetic=synthetic,
            targets=targets,
            teacher=teacher,
            budget=budget if subset else None,
            fraction=fraction,
            trainer=self.plugged_trainer(key),
            model=self.plugged_model(key),
            epochs=max(1, round_half_up(share * training.epochs)),
            steps_as=self.grid.n if length == "steps" else None,
            min_steps=training.min_steps,
            batch_size=training.batch_size,
            proxy=proxy,
            fold=fold,
            split=split,
        )
        return self.grid.add(spec, *plugins)

    def teacher(self, learned: str | None = "labels") -> Ref:
        """Add the proxy whose answers are learned from; it sees what the students see.

        learned: what it has to have been trained on, if anything.
        """
        if self.grid.scale.inputs == "zca":
            raise UserError(
                f"{self.grid.where}.inputs: zca is for what is distilled and trained; '{self.arm.label}'"
                f" ({self.where}) asks a proxy, which sees plain images. Leave the arm out of this grid."
            )
        return self._proxies(learned=learned)[0]

    def experts(self, upstream: list[Ref]) -> list[Ref]:
        """Add the trainings whose trajectories are matched."""
        scale = self.grid.scale
        if scale.experts is None:
            raise UserError(
                f"{self.grid.where}.experts: missing, but an arm needs expert trajectories ({self.where})."
                " Give a training whose trainer is `experts`."
            )
        found = [
            self.train("experts", None, None, 1.0, "epochs", proxy=number, upstream=upstream)
            for number in range(scale.expert_jobs)
        ]
        upstream += found
        return found

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

        A variant is trained for a `share` of the epochs, or on another `split` than the pool: for as many
        epochs of that, or, with `length` steps, for as many steps as these epochs of the pool take. The split
        `clean` is the grid's `clean_pairs`, or the validation split where it names none. `learned`
        is what the proxy has to have been trained on: labels, for classes, or captions, for texts. `named`:
        it is asked for the names of the data's classes.
        """
        entry, trainer = self.grid.entry, self.settings("proxy").trainer
        if learned is not None:
            self.check_learned("proxy", learned, f"arms: '{self.arm.label}'")
        if named and not entry.classes:
            raise UserError(
                f"{self.grid.where}.signals: '{self.arm.label}' ({self.where}) compares with the names of"
                f" classes, and {entry.name} has none. Set `names: imagenet` of latent_classes and of"
                " label_similarity, or leave the arm out."
            )
        if recorded and not trainer.params.get("record"):
            raise UserError(
                f"{self.grid.where}.proxy.trainer.params.record: '{trainer.name}' records nothing, but an arm"
                " needs what happened to every example. Name a supervised trainer and set record: true."
            )
        kinds: list[dict[str, Any]] = [{"proxy": number} for number in range(count)]
        if folds:
            kinds = [{"proxy": fold, "fold": (fold, folds)} for fold in range(folds)]
        if variants:
            kinds = [{"proxy": 0, **self._variant(**settings)} for settings in variants]
        return [self.train("proxy", None, None, 1.0, **{"length": "epochs", **kind}) for kind in kinds]

    def _variant(self, share: float = 1.0, split: str = "pool", length: Length = "epochs") -> dict[str, Any]:
        if split == "pool":
            return {"share": share}
        if split == "clean":
            clean = self.grid.clean_pairs()
            if clean is not None:
                return {"share": share, "data": clean}
            split = "validation"
        self.grid.require_validation(f"the proxy of '{self.arm.label}' ({self.where})")
        return {"share": share, "split": split, "length": length}

    # -- signals --------------------------------------------------------------------------------

    def signals(self, method: registry.Plugin, params: registry.Params) -> tuple[dict[str, Ref], list[Ref]]:
        """Add the signals of a method, the same at every fraction; returns them and all that they took."""
        given, upstream = self.arm.signals, list[Ref]()
        needs = {name: {**own, **given.get(name, {})} for name, own in method.needs(params).items()}
        for name in given:
            if name not in needs:
                raise unknown("signal", name, needs, f"{self.where}.signals")
        signals = {
            name: self._signal(name, own, given, f"{self.where}.signals.{name}", upstream)
            for name, own in needs.items()
        }
        return signals, upstream

    def targets(self, upstream: list[Ref]) -> dict[str, Ref]:
        """Add the signal that models regress on instead of labels, if there is one, by name."""
        use, where = self.grid.scale.targets, f"{self.grid.where}.targets"
        if use is None:
            return {}
        signal = registry.load("signals", use.name, f"{where}.name")
        if "experts" in signal.needs(parameters(signal, use.params, f"{where}.params")):
            raise UserError(f"{where}.name: '{use.name}' is made by experts, which need targets.")
        return {"targets": self._signal(use.name, use.params, {}, where, upstream)}

    def _signal(
        self, name: str, own: Mapping[str, Any], overrides: Mapping[str, Any], where: str, upstream: list[Ref]
    ) -> Ref:
        """Add one signal and all that it needs; `model` stands for one proxy or several."""
        grid, signal = self.grid, registry.load("signals", name, where)
        resolved = plugged(signal, {**grid.scale.signals.get(name, {}), **own}, where)
        uses: dict[str, Ref] = {}
        plugins = [signal]
        for need, settings in signal.needs(signal.params(**resolved.params)).items():
            if need == "model":
                proxies = self._proxies(**settings)
                uses |= {f"model{number}": proxy for number, proxy in enumerate(proxies)}
                uses |= self._seen(proxies)
                plugins.append(self.model("proxy"))
                upstream += proxies
            elif need == "experts":
                uses |= {f"model{number}": one for number, one in enumerate(self.experts(upstream))}
                uses |= self.targets(upstream)
                plugins.append(self.model("experts"))
            elif need == "target":
                target = grid.target_images()
                if target is None:
                    grid.require_validation(f"'{name}' ({where})")
                else:
                    uses["target"] = target
            else:
                inner = {**settings, **overrides.get(need, {})}
                uses[need] = self._signal(need, inner, overrides, where, upstream)
        spec = SignalSpec(
            seeds=grid.seeds, root_seed=grid.config.root_seed, data=grid.data, signal=resolved, uses=uses
        )
        reference = grid.add(spec, *plugins)
        upstream.append(reference)
        return reference

    def _seen(self, proxies: Sequence[Ref]) -> dict[str, Ref]:
        """Return the data of those proxies that were trained on others than the grid's."""
        specs = [self.grid.graph.nodes[proxy].spec for proxy in proxies]
        return {
            f"seen{number}": spec.data
            for number, spec in enumerate(specs)
            if isinstance(spec, TrainSpec) and spec.data != self.grid.data
        }

    # -- what a training can do -----------------------------------------------------------------

    def check_learned(self, key: Key, learned: str, asker: str) -> None:
        """Refuse a trainer whose models cannot be asked for classes (labels) or about texts (captions)."""
        if learned not in self.trainer_needs(key):
            right = "clip" if learned == "captions" else "supervised"
            raise UserError(
                f"{self.place(key)}.trainer.name: '{self.settings(key).trainer.name}' learns no {learned},"
                f" which {asker} asks its models about; name `{right}`."
            )

    def _check_trainer(self, key: Key, name: str, needs: registry.Signals, is_synthetic: bool) -> None:
        """Refuse a trainer that cannot do what is asked of it under this key."""
        scale, where = self.grid.scale, f"{self.place(key)}.trainer.name"
        if (key == "experts") != ("trajectories" in needs):
            wrong = "writes no model" if "trajectories" in needs else "keeps no trajectories; name `experts`"
            raise UserError(f"{where}: '{name}' {wrong}.")
        if scale.inputs == "zca" and key == "proxy" and "whitening" in needs:
            raise UserError(
                f"{where}: '{name}' would see whitened images, but proxies choose by plain ones;"
                " name `supervised` or a self-supervised trainer."
            )
        if scale.inputs == "zca" and key != "proxy" and "whitening" not in needs:
            raise UserError(
                f"{where}: '{name}' shows networks plain images only, but `inputs` is zca; name"
                " `distilled` (under `experts`, `experts`), or set `inputs: plain`."
            )
        if "labels" in needs and scale.targets is None and not self.grid.entry.class_count:
            raise UserError(
                f"{where}: '{name}' learns labels, and {self.grid.entry.name} has no classes in"
                " datasets.yaml. Name another trainer, or `classes` or `n_classes` there."
            )
        regresses = scale.targets is not None and key == "training"
        if (is_synthetic or regresses) and "sets" not in needs:
            raise UserError(
                f"{where}: '{name}' trains on real images with labels only; name `distilled`"
                " where there are synthetic sets or `targets`."
            )
