"""Claims and published numbers as data: what a suite says that a paper found.

`winnow.evidence.claims` judges the claims and
`winnow.evidence.reproduction` sets the published numbers beside the measured ones.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from winnow.plan.config import ScaleName

Length = Literal["epochs", "steps"]
Kind = Literal["superiority", "non_inferiority", "equivalence", "ratio", "correlation"]
Mark = Literal[
    "table",
    "abstract",
    "authors' results file",
    "README",
    "review",
    "second-hand",
    "code",
    "measured",
    "inference",
    "unverified",
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, gt=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class CellFilter(_Frozen):
    """The cells that a claim speaks of; an axis left out keeps all its values."""

    dataset: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    fraction: Annotated[tuple[Fraction, ...], Field(min_length=1)] | None = None
    length: Annotated[tuple[Length, ...], Field(min_length=1)] | None = None

    def named(self) -> dict[str, tuple[str | float, ...]]:
        """Return the axes that are filtered, with the values kept."""
        axes = {"dataset": self.dataset, "fraction": self.fraction, "length": self.length}
        return {axis: tuple(values) for axis, values in axes.items() if values is not None}


class ClaimSpec(_Frozen):
    """One headline claim of a paper, precise enough to be tested.

    With `a` the values of `arm` and `b` those of `baseline`, paired by seed, the claim is

    - superiority: mean(a - b) > margin;
    - non_inferiority: mean(a - b) > -margin;
    - equivalence: -margin < mean(a - b) < margin;
    - ratio: geometric mean(a / b) > margin;
    - correlation: correlation of `metric` and `with` over the points (arm, fraction) > margin.

    It is judged on every (dataset, fraction, length) cell of the arm that passes `where`. The baseline is
    taken from the same cell; an axis named in `where_baseline` is taken from there instead. A baseline may be
    a number too, such as the 0 that a control is to have.
    `metric` is the name of a metric or of a cost column. `made_at` is the scale of the authors' evidence.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    statement: Text
    source: Text
    made_at: ScaleName
    kind: Kind
    metric: Name
    arm: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    baseline: Name | Number | None = None
    margin: Number
    where: CellFilter = CellFilter()
    where_baseline: CellFilter = CellFilter()
    with_metric: Name | None = Field(default=None, alias="with")
    coefficient: Literal["pearson", "spearman"] = "pearson"

    @property
    def arms(self) -> tuple[str, ...]:
        """The arm or, for a correlation, all the arms whose results are its points."""
        return (self.arm,) if isinstance(self.arm, str) else self.arm

    @property
    def threshold(self) -> float:
        """The value that the effect must exceed."""
        return -self.margin if self.kind == "non_inferiority" else self.margin

    @model_validator(mode="after")
    def _margin_fits_kind(self) -> Self:
        rules = {
            "superiority": (self.margin >= 0, "0 or more (the arm must win by more than this)"),
            "non_inferiority": (self.margin > 0, "more than 0 (the arm may lose by less than this)"),
            "equivalence": (self.margin > 0, "more than 0 (the arm may differ by less than this)"),
            "ratio": (self.margin > 0, "more than 0 (1 means equal)"),
            "correlation": (-1 < self.margin < 1, "between -1 and 1, both excluded"),
        }
        valid, accepted = rules[self.kind]
        if not valid:
            raise ValueError(f"margin: {self.margin} does not fit kind '{self.kind}'. Accepted: {accepted}.")
        difference = self.kind in ("superiority", "non_inferiority", "equivalence")
        if difference and self.metric.endswith("accuracy") and self.margin >= 1:
            raise ValueError(
                f"margin: {self.margin} for '{self.metric}'. Accepted: a fraction below 1 (3 points: 0.03)."
            )
        return self

    @model_validator(mode="after")
    def _arms_fit_kind(self) -> Self:
        if self.kind == "correlation":
            if self.with_metric is None:
                raise ValueError("with: missing. A correlation needs the name of the second metric.")
            if self.baseline is not None or self.where_baseline.named():
                raise ValueError("baseline: a correlation has none. Remove baseline and where_baseline.")
            return self
        if self.baseline is None:
            raise ValueError(f"baseline: missing. Kind '{self.kind}' needs the name of an arm.")
        if not isinstance(self.arm, str):
            raise ValueError(f"arm: {list(self.arm)}. Kind '{self.kind}' accepts one name, not a list.")
        if isinstance(self.baseline, float) and (self.kind == "ratio" or self.where_baseline.named()):
            raise ValueError("baseline: a number is for differences in the arm's own cells. Name an arm.")
        if {"with_metric", "coefficient"} & self.model_fields_set:
            raise ValueError(f"with, coefficient: kind '{self.kind}' has none; only a correlation does.")
        if self.arm == self.baseline and not self.where_baseline.named():
            raise ValueError(
                f"baseline: '{self.baseline}' is the arm itself. Name another, or where_baseline."
            )
        return self

    @model_validator(mode="after")
    def _baseline_is_one_cell(self) -> Self:
        for axis, values in self.where_baseline.named().items():
            if len(values) != 1:
                raise ValueError(f"where_baseline.{axis}: {list(values)}. Accepted: a list of one value.")
        return self


class ReproductionEntry(_Frozen):
    """One number that a paper (or a report about it) states, to be set beside ours.

    `mark` says how the number is known; `obstacle` says why it cannot be run on this machine, if so.
    """

    dataset: Name
    arm: Name
    fraction: Fraction
    metric: Name
    paper_value: Number
    source: Text
    mark: Mark
    length: Length = "epochs"
    made_at: ScaleName = "paper"
    obstacle: Text | None = None

    @model_validator(mode="after")
    def _accuracy_is_a_fraction(self) -> Self:
        if self.metric.endswith("accuracy") and not 0 <= self.paper_value <= 1:
            raise ValueError(
                f"paper_value: {self.paper_value} for '{self.metric}'. Accepted: a fraction from 0 to 1"
                " (60.35 % is 0.6035)."
            )
        return self
