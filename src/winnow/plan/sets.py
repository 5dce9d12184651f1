"""The sets that an arm trains on: a selection, or a distillation and the selection it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

from winnow import registry
from winnow.errors import UserError, unknown
from winnow.plan.grid import Grid
from winnow.plan.plugins import check_files, plugged, resolve
from winnow.plan.specs import DistillSpec, Plugged, Ref, SelectSpec
from winnow.plan.suite import Start, Use, merged
from winnow.plan.trainings import Trainings
from winnow.plan.yamlfile import validate


@dataclass
class Sets:
    """The selections and synthetic sets of one arm; its signals are the same at every fraction."""

    grid: Grid
    trainings: Trainings
    _signals: tuple[dict[str, Ref], list[Ref]] | None = field(default=None, init=False)

    def select(
        self,
        method: registry.Plugin,
        variant: str,
        params: registry.Params,
        budget: int | None,
        fraction: float,
        upstream: list[Ref],
    ) -> Ref:
        """Add a selection with the signals that it reads; budget None: the full ordering."""
        if self._signals is None:
            self._signals = self.trainings.signals(method, params)
        signals, before = self._signals
        upstream += before
        spec = SelectSpec(
            seeds=self.grid.seeds,
            root_seed=self.grid.config.root_seed,
            data=self.grid.data,
            method=Plugged(name=method.name, params=params.model_dump(mode="json")),
            variant=variant,
            budget=budget,
            fraction=None if budget is None else fraction,
            signals=signals,
        )
        return self.grid.add(spec, method)

    def distill(
        self,
        method: registry.Plugin,
        variant: str,
        params: registry.Params,
        budget: int,
        fraction: float,
        upstream: list[Ref],
    ) -> Ref:
        """Add a distillation with the subset that it starts from and all that it needs."""
        start, needs = self._start(budget, fraction, upstream), method.needs(params)
        self._check_targets(method, needs)
        model, student = self._student()
        uses, plugins = self._uses(method, needs, student, upstream)
        spec = DistillSpec(
            seeds=self.grid.seeds,
            root_seed=self.grid.config.root_seed,
            data=self.grid.data,
            start=start,
            method=Plugged(name=method.name, params=params.model_dump(mode="json")),
            variant=variant,
            model=student,
            budget=budget,
            fraction=fraction,
            uses=uses,
        )
        return self.grid.add(spec, method, model, *plugins)

    def _student(self) -> tuple[registry.Plugin, Plugged]:
        """Return the network that a set is made for: the scale's, with the arm's changes.

        An arm that trains another network (`training`) shows whether the set transfers to it.
        """
        use, where = self.grid.scale.training.model, f"{self.grid.where}.training.model"
        if own := self.trainings.arm.student:
            use = validate(Use, merged(use.model_dump(), own), self.trainings.where, at="student")
            where = f"{self.trainings.where}.student"
        model = registry.load("models", use.name, f"{where}.name")
        return model, plugged(model, use.params, f"{where}.params")

    def _uses(
        self, method: registry.Plugin, needs: registry.Signals, student: Plugged, upstream: list[Ref]
    ) -> tuple[dict[str, Ref], list[registry.Plugin]]:
        """Add what a distillation reads beside its start; returns it by name, and whose code that takes."""
        trainings, uses, plugins = self.trainings, dict[str, Ref](), list[registry.Plugin]()
        for need in needs:
            if need == "experts":
                self._check_experts(student)
                uses |= {f"expert{number}": one for number, one in enumerate(trainings.experts(upstream))}
            elif need == "targets":
                uses |= trainings.targets(upstream)
            elif need == "model":
                uses["model0"] = trainings.teacher(needs[need].get("learned"))
                plugins.append(trainings.model("proxy"))
                upstream.append(uses["model0"])
            elif need == "files":
                check_files(needs[need], f"{trainings.where}.params")
            else:
                accepted = ("experts", "files", "model", "targets")
                raise unknown("need", need, accepted, f"{trainings.where}.method: '{method.name}'")
        return uses, plugins

    def _start(self, budget: int, fraction: float, upstream: list[Ref]) -> Ref:
        """Add the selection of the real examples that a distillation starts from."""
        begin, where = self.trainings.arm.start or Start(), f"{self.trainings.where}.start"
        starter = registry.load("select", begin.method, f"{where}.method")
        if starter.resamples or starter.name == "full":
            raise UserError(f"{where}.method: '{starter.name}' chooses no subset; name a method that does.")
        own = {**self.grid.scale.methods.get(begin.method, {}), **begin.params}
        kind, params = resolve(starter, begin.variant, own, where)
        start = self.select(starter, kind, params, budget, fraction, upstream)
        upstream.append(start)
        return start

    def _check_targets(self, method: registry.Plugin, needs: registry.Signals) -> None:
        if self.grid.scale.targets is not None and "targets" not in needs:
            raise UserError(
                f"{self.trainings.where}.method: '{method.name}' distils labels, but the scale has `targets`"
                f" to regress on ({self.grid.where}). Leave the arm out of this scale, or remove `targets`."
            )
        targets = self.grid.scale.targets
        if targets is not None and "model" in needs and targets.name != "representations":
            raise UserError(
                f"{self.grid.where}.targets.name: '{method.name}' asks the proxy what it makes of images that"
                f" were moved ({self.trainings.where}), which is comparable with 'representations' alone, not"
                f" with '{targets.name}'. Set crop: 0 and flip: false of the method, or name that signal."
            )

    def _check_experts(self, student: Plugged) -> None:
        """Refuse experts of another model than the students that are to follow them."""
        trainings = self.trainings
        if self.grid.scale.experts is not None and trainings.plugged_model("experts") != student:
            raise UserError(
                f"{trainings.place('experts')}.model: experts and students have to be the same network;"
                " give `experts` and `training` of the scale the same model, and the arm no `student`."
            )
