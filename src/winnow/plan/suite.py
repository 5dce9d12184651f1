"""A suite: one published system with its baselines, as a researcher would describe it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from winnow.errors import UserError
from winnow.plan.claims import ClaimSpec, Length, ReproductionEntry
from winnow.plan.config import ScaleName
from winnow.plan.yamlfile import load_yaml, validate

Role = Literal["reference", "control", "method", "oracle"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Model):
    paper: str
    code: str = ""


class Use(_Model):
    """A plugin by name, with the parameters that differ from its defaults."""

    name: str
    params: dict[str, Any] = {}


class Training(_Model):
    """How a model is trained: `epochs` over the whole training set at `batch_size`."""

    trainer: Use
    model: Use
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)


class Arm(_Model):
    """One method (or control) of the comparison.

    `fractions` and `lengths` restrict the arm to a part of the scale's grid.
    """

    label: str
    role: Role
    method: str
    variant: str | None = None
    params: dict[str, Any] = {}
    signals: dict[str, dict[str, Any]] = {}
    fractions: list[float] | None = None
    lengths: list[Length] = ["epochs"]


class Scale(_Model):
    """The grid at one scale. `fractions` of equal-epoch and of equal-step training are listed apart.

    `pool` names the splits that methods choose from; `limits` keeps a stratified part of a split.
    """

    fractions: dict[Length, list[float]]
    seeds: int = Field(ge=1)
    seeds_per_job: int = Field(default=1, ge=1)
    pool: list[Literal["train", "unlabelled"]] = Field(default=["train"], min_length=1)
    limits: dict[Literal["train"], int] = {}
    proxy: Training
    training: Training
    evaluation: Use
    signals: dict[str, dict[str, Any]] = {}
    arms: list[str] | None = None

    @field_validator("fractions")
    @classmethod
    def _fractions_are_shares(
        cls, value: dict[Length, list[float]]
    ) -> dict[Length, list[float]]:
        for fraction in (f for listed in value.values() for f in listed):
            if not 0 < fraction < 1:
                raise ValueError(
                    f"fraction {fraction} is not between 0 and 1 (the full data has its own arm)"
                )
        return value


class Figure(_Model):
    figure: str
    name: str | None = None
    options: dict[str, Any] = {}


class Suite(_Model):
    """`suites/<name>.yaml`; see docs/add-a-suite.md."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    question: str
    source: Source
    arms: dict[str, Arm] = Field(min_length=1)
    scales: dict[ScaleName, dict[str, Scale]]
    figures: list[Figure] = []
    claims: list[ClaimSpec] = []
    reproduction: list[ReproductionEntry] = []

    @model_validator(mode="after")
    def _names_agree(self) -> Suite:
        known = set(self.arms)
        named = [
            (f"claims.{c.id}", a)
            for c in self.claims
            for a in (*c.arms, c.baseline)
            if a
        ]
        named += [
            (f"reproduction.{i}.arm", r.arm) for i, r in enumerate(self.reproduction)
        ]
        named += [
            (f"scales.{scale}.{dataset}.arms", arm)
            for scale, datasets in self.scales.items()
            for dataset, grid in datasets.items()
            for arm in grid.arms or []
        ]
        for place, arm in named:
            if arm not in known:
                raise ValueError(
                    f"{place}: unknown arm '{arm}'; accepted: {', '.join(sorted(known))}"
                )
        _distinct("claims", [c.id for c in self.claims])
        _distinct("figures", [f.name or f.figure for f in self.figures])
        if sum(arm.role == "reference" for arm in self.arms.values()) != 1:
            raise ValueError(
                "arms: exactly one arm needs `role: reference` (the full data)"
            )
        return self


def _distinct(key: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{key}: id '{twice[0]}' is used twice")


def load_suite(path: Path) -> Suite:
    """Read and validate one suite file.

    Under `scales.<scale>`, the keys of `defaults` hold for every dataset and each entry of
    `datasets` overrides them, key by key.
    """
    data = load_yaml(path)
    scales = data.get("scales")
    if isinstance(scales, dict):
        data = data | {
            "scales": {
                name: _grids(path, name, scale) for name, scale in scales.items()
            }
        }
    suite = validate(Suite, data, str(path))
    if suite.name != path.stem:
        raise UserError(
            f"{path}: name: '{suite.name}' differs from the file's name; accepted: {path.stem}"
        )
    return suite


def _grids(path: Path, name: str, scale: Any) -> dict[str, Any]:
    if not isinstance(scale, dict) or not isinstance(scale.get("datasets"), dict):
        raise UserError(
            f"{path}: scales.{name}.datasets: expected a mapping of dataset names to their settings"
        )
    extra = sorted(set(scale) - {"defaults", "datasets"})
    if extra:
        raise UserError(
            f"{path}: scales.{name}: unknown key '{extra[0]}'. Accepted: datasets, defaults."
        )
    defaults = scale.get("defaults") or {}
    return {
        dataset: _merge(defaults, own or {})
        for dataset, own in scale["datasets"].items()
    }


def _merge(base: Any, own: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        return {
            **base,
            **{key: _merge(base.get(key), value) for key, value in own.items()},
        }
    return own
