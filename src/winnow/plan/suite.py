"""A suite: one published system with its baselines, as a researcher would describe it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from winnow.errors import UserError, one_of, unknown
from winnow.plan.claims import ClaimSpec, Length, ReproductionEntry
from winnow.plan.config import ScaleName
from winnow.plan.specs import Inputs
from winnow.plan.yamlfile import Loc, load_yaml, validate

Role = Literal["reference", "control", "method", "oracle"]


def _once(values: Sequence[Any]) -> Sequence[Any]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"'{value}' is listed twice; keep one.")
    return values


Count = Annotated[int, Field(strict=True, ge=1)]
Once = AfterValidator(_once)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Model):
    paper: str
    code: str = ""


class Use(_Model):
    """A plugin by name, with the parameters that differ from its defaults."""

    name: str
    params: dict[str, Any] = {}


class Measure(Use):
    """A protocol, and for one that trains networks itself what differs from the arm's `training`."""

    training: dict[str, Any] = {}


class Start(_Model):
    """A method of selection, with its variant and the parameters that differ from its defaults."""

    method: str = "random"
    variant: str | None = None
    params: dict[str, Any] = {}


class Training(_Model):
    """How a model is trained: `epochs` at `batch_size`, and for at least `min_steps` batches.

    Without `min_steps` a subset that is smaller than a few batches would hardly be trained on at all.
    """

    trainer: Use
    model: Use
    epochs: Count
    batch_size: int = Field(strict=True, ge=2)
    min_steps: int = Field(default=0, strict=True, ge=0)


class Arm(_Model):
    """One method (or control) of the comparison.

    `fractions` and `lengths` restrict the arm to a part of the scale's grid. The reference is trained on
    all examples, so it has neither. `training`, `proxy` and `experts` change the scale's settings of that
    name, key by key: another optimiser, another architecture. `start` names the method that chooses the
    real examples which a distillation starts from. A set is made for the model of the scale's `training`,
    with what `student` changes of it.
    """

    label: str
    role: Role
    method: str
    variant: str | None = None
    params: dict[str, Any] = {}
    signals: dict[str, dict[str, Any]] = {}
    training: dict[str, Any] = {}
    proxy: dict[str, Any] = {}
    experts: dict[str, Any] = {}
    start: Start | None = None
    student: dict[str, Any] = {}
    fractions: Annotated[list[float], Field(min_length=1), Once] | None = None
    lengths: Annotated[list[Length], Field(min_length=1), Once] = ["epochs"]

    @model_validator(mode="after")
    def _reference_is_all_data(self) -> Arm:
        if self.role == "reference":
            if self.method != "full":
                raise ValueError(f"method: '{self.method}' for `role: reference`. Accepted: full.")
            for key in sorted({"fractions", "lengths", "signals"} & self.model_fields_set):
                raise ValueError(f"{key}: `role: reference` is trained on all examples; remove this key.")
        return self


class Scale(_Model):
    """The grid at one scale. `fractions` of equal-epoch and of equal-step training are listed apart.

    `transfer` names datasets whose test splits the trained models are measured on as well.

    `dataset` is the entry of datasets.yaml, where the grid has another name: one dataset at two sizes, or
    with two values of an option of its reader (`options`), is two grids. `pool` names the splits that methods
    choose from; `limits` keeps a stratified part of a split; `holdout` examples are cut from the training
    split first, as the split `validation`. `measures` are protocols that look at the selections, beside
    `evaluation`, which looks at the trained models. `experts` are the trainings whose trajectories
    distillation matches, in `expert_jobs` jobs, and `targets` is a signal that they, the students and the
    trained models regress on instead of labels. `methods` holds parameters of
    methods for this grid, by name; those of an arm go before them. `arms` names those to run, all by default;
    `arm_fractions` restricts single arms at this scale, and `arm_trainings` changes the settings that they
    have of their own, key by key. `target_images` names a dataset whose training images stand for what models
    are to be good at, and `clean_pairs` one that filter networks are trained on; without them the validation
    split does. `inputs` says what experts, synthetic sets and
    trained models are shown: images normalised, or whitened by ZCA after that. Proxies are shown plain ones.
    """

    dataset: str | None = None
    options: dict[str, Any] = {}
    fractions: dict[Length, Annotated[list[float], Once]]
    seeds: Count
    seeds_per_job: Count = 1
    inputs: Inputs = "plain"
    pool: Annotated[list[Literal["train", "unlabelled"]], Field(min_length=1), Once] = ["train"]
    limits: dict[Literal["train"], Count] = {}
    holdout: int = Field(default=0, strict=True, ge=0)
    proxy: Training
    training: Training
    experts: Training | None = None
    expert_jobs: Count = 1
    targets: Use | None = None
    evaluation: Use
    transfer: Annotated[list[str], Once] = []
    target_images: str | None = None
    clean_pairs: str | None = None
    measures: list[Measure] = []
    signals: dict[str, dict[str, Any]] = {}
    methods: dict[str, dict[str, Any]] = {}
    arms: Annotated[list[str], Field(min_length=1), Once] | None = None
    arm_fractions: dict[str, Annotated[list[float], Once]] = {}
    arm_trainings: dict[str, dict[Literal["training", "proxy", "experts"], dict[str, Any]]] = {}

    @field_validator("fractions")
    @classmethod
    def _fractions_are_shares(cls, value: dict[Length, list[float]]) -> dict[Length, list[float]]:
        for length, listed in value.items():
            for fraction in listed:
                if not 0 < fraction <= 1:
                    raise ValueError(
                        f"{length}: {fraction} is not accepted. Accepted: shares above 0, and at most 1 (all"
                        " data, for arms that repeat or weight examples)."
                    )
        return value


class Figure(_Model):
    """A figure of the suite; `scales` leaves it out where its arms are not run."""

    figure: str
    scales: Annotated[list[ScaleName], Field(min_length=1), Once] | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    options: dict[str, Any] = {}


class Suite(_Model):
    """`suites/<name>.yaml`; see docs/add-a-suite.md."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    extends: str | None = None
    """The suite whose arms and scales these are laid over."""
    title: str
    question: str
    metric: str = "test_accuracy"
    """What arms are ranked by."""
    look: bool = False
    """Whether contact sheets, maps and confusions are drawn."""
    source: Source
    arms: dict[str, Arm] = Field(min_length=1)
    scales: dict[ScaleName, dict[str, Scale]]
    figures: list[Figure] = []
    claims: list[ClaimSpec] = []
    reproduction: list[ReproductionEntry] = []

    def figures_at(self, scale: str) -> list[Figure]:
        """Return the figures to draw at a scale."""
        return [figure for figure in self.figures if figure.scales is None or scale in figure.scales]

    @property
    def grids(self) -> Iterator[tuple[str, str, Scale]]:
        """Every (scale, dataset, grid) of the suite."""
        return ((scale, name, grid) for scale, grids in self.scales.items() for name, grid in grids.items())

    @model_validator(mode="after")
    def _parts_agree(self) -> Suite:
        _distinct("claims", "id", [claim.id for claim in self.claims])
        _distinct("figures", "name", [figure.name or figure.figure for figure in self.figures])
        _distinct("arms", "label", [arm.label for arm in self.arms.values()])
        references = [name for name, arm in self.arms.items() if arm.role == "reference"]
        if len(references) != 1:
            found = ", ".join(references) or "none"
            raise ValueError(f"arms: exactly one needs `role: reference` (all data); found: {found}.")
        _check_arm_names(self, references[0])
        _check_arms_are_run(self)
        for name, arm in self.arms.items():
            _check_fractions(self, name, arm)
        _check_filters(self)
        return self


def _distinct(key: str, what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{key}: {what} '{twice[0]}' is used twice; change one.")


def _check_arm_names(suite: Suite, reference: str) -> None:
    """Check that claims, published numbers and grids name arms of the suite, and grids the reference."""
    named = [(f"claims.{claim.id}", arm) for claim in suite.claims for arm in (*claim.arms, claim.baseline)]
    named += [(f"reproduction[{place}].arm", entry.arm) for place, entry in enumerate(suite.reproduction)]
    for scale, dataset, grid in suite.grids:
        where = f"scales.{scale}.{dataset}.arms"
        named += [(where, arm) for arm in grid.arms or []]
        named += [(f"scales.{scale}.{dataset}.arm_fractions", arm) for arm in grid.arm_fractions]
        named += [(f"scales.{scale}.{dataset}.arm_trainings", arm) for arm in grid.arm_trainings]
        if grid.arms is not None and reference not in grid.arms:
            raise ValueError(
                f"{where}: lacks the reference '{reference}', which costs are relative to; add it."
            )
    for where, arm in named:
        if isinstance(arm, str) and arm not in suite.arms:
            raise ValueError(str(unknown("arm", arm, suite.arms, where)))


def _offered(suite: Suite, name: str) -> set[float]:
    """Return the fractions that grids with this arm have for its lengths."""
    grids = [grid for _, _, grid in suite.grids if grid.arms is None or name in grid.arms]
    lengths = suite.arms[name].lengths
    return {fraction for grid in grids for length in lengths for fraction in grid.fractions.get(length, [])}


def _check_arms_are_run(suite: Suite) -> None:
    idle = [n for n, arm in suite.arms.items() if arm.role != "reference" and not _offered(suite, n)]
    if idle:
        raise ValueError(
            f"arms: no scale runs {one_of(idle)}; list them in `arms` of one that has fractions for their"
            " `lengths`, or remove them."
        )


def _check_fractions(suite: Suite, name: str, arm: Arm) -> None:
    """Check that each of the arm's own fractions is offered at some scale."""
    offered = _offered(suite, name)
    for fraction in arm.fractions or []:
        if fraction not in offered:
            raise ValueError(str(unknown("fraction", fraction, offered, f"arms.{name}.fractions")))


def _check_filters(suite: Suite) -> None:
    """Check that claims and published numbers speak of cells that some scale has."""
    offered: dict[str, set[str | float]] = {"dataset": set(), "fraction": {1.0}, "length": {"epochs"}}
    for _, dataset, grid in suite.grids:
        offered["dataset"].add(dataset)
        offered["length"].update(grid.fractions)
        offered["fraction"].update(share for listed in grid.fractions.values() for share in listed)
    for claim in suite.claims:
        for key, cells in (("where", claim.where), ("where_baseline", claim.where_baseline)):
            for axis, values in cells.named().items():
                for value in values:
                    if value not in offered[axis]:
                        where = f"claims.{claim.id}.{key}.{axis}"
                        raise ValueError(str(unknown(axis, value, offered[axis], where)))
    for place, entry in enumerate(suite.reproduction):
        for axis, known in offered.items():
            value = getattr(entry, axis)
            if value not in known and entry.obstacle is None:
                raise ValueError(str(unknown(axis, value, known, f"reproduction[{place}].{axis}")))


def load_suite(path: Path) -> Suite:
    """Read and validate one suite file.

    Under `scales.<scale>`, the keys of `defaults` hold for every dataset and each entry of
    `datasets` overrides them, key by key. A suite that `extends` another one has its arms and scales, with
    its own laid over them in the same way; an arm that it sets to null is left out.
    """
    data = _extended(path, load_yaml(path))
    scales = data.get("scales")
    if isinstance(scales, dict):
        data = data | {"scales": {name: _grids(path, name, scale) for name, scale in scales.items()}}
    suite = validate(Suite, data, str(path), written=lambda loc: _written(scales, loc))
    if suite.name != path.stem:
        raise UserError(f"{path}: name: '{suite.name}' differs from the file's name. Accepted: {path.stem}.")
    return suite


def _written(scales: Any, loc: Loc) -> Loc:
    """Return the key path in the file of one in the grids: below `datasets`, or below `defaults`."""
    if loc[:1] != ("scales",) or len(loc) < 3:
        return loc
    key, name, dataset, *rest = loc
    scale = scales[name]
    if rest and not _has(scale["datasets"][dataset], rest) and _has(scale.get("defaults"), rest):
        return (key, name, "defaults", *rest)
    return (key, name, "datasets", dataset, *rest)


def _has(data: Any, keys: Sequence[int | str]) -> bool:
    """Whether nested data have something at this path; what stands in its way counts as it."""
    for key in keys:
        if not isinstance(data, Mapping):
            return data is not None
        if key not in data:
            return False
        data = data[key]
    return True


def _extended(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    if data.get("extends") is None:
        return data
    name, known = data["extends"], sorted(file.stem for file in path.parent.glob("*.yaml"))
    if name not in known or name == path.stem:
        raise unknown("suite", name, [other for other in known if other != path.stem], f"{path}: extends")
    base = load_yaml(path.with_name(f"{name}.yaml"))
    if base.get("extends") is not None:
        raise UserError(f"{path}: extends: '{name}' extends {base['extends']} itself; name that one.")
    arms = data.get("arms", {})
    for arm in arms if isinstance(arms, dict) else ():
        if arms[arm] is None and arm not in base.get("arms", {}):
            raise unknown("arm", arm, base.get("arms", {}), f"{path}: arms (to leave out)")
    laid = {key: merged(base.get(key, {}), data.get(key, {})) for key in ("arms", "scales")}
    if isinstance(laid["arms"], dict):
        laid["arms"] = {arm: about for arm, about in laid["arms"].items() if about is not None}
    return data | laid


def _grids(path: Path, name: object, scale: object) -> dict[str, Any]:
    where = f"{path}: scales.{name}"
    if name not in get_args(ScaleName):
        raise unknown("scale", name, get_args(ScaleName), f"{path}: scales")
    if not isinstance(scale, dict):
        raise UserError(f"{where}: {scale!r} is not accepted. Accepted: datasets and defaults.")
    for key in scale:
        if key not in ("datasets", "defaults"):
            raise unknown("key", key, ("datasets", "defaults"), where)
    datasets, defaults = scale.get("datasets"), scale.get("defaults", {})
    if not isinstance(datasets, dict) or not datasets:
        raise UserError(f"{where}.datasets: {datasets!r} is not accepted. Accepted: names of datasets.")
    if not isinstance(defaults, dict):
        raise UserError(f"{where}.defaults: {defaults!r} is not accepted. Accepted: a mapping of settings.")
    return {dataset: merged(defaults, own or {}) for dataset, own in datasets.items()}


def merged(base: Any, own: Any) -> Any:
    """Return `base` with the keys of `own` laid over it, mapping by mapping.

    A plugin of another name replaces the one in `base`: its parameters would not fit.
    """
    if not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        return own
    if own.get("name", base.get("name")) != base.get("name"):
        return own
    return {**base, **{key: merged(base.get(key), value) for key, value in own.items()}}
