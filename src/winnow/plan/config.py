"""`config.yaml` and `--config`: what to run, where, and with which seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from winnow.plan.yamlfile import validate

ScaleName = Literal["demo", "small", "paper"]


class Config(BaseModel):
    """The run's settings; `config.yaml` documents each key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: ScaleName = "demo"
    suites: list[str] = Field(default=["sas"], min_length=1)
    seeds: int | list[int] | None = None
    root_seed: int = Field(default=0, ge=0)
    mirror: str | None = None
    store: str = Field(default="results", min_length=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")

    @field_validator("seeds")
    @classmethod
    def _seeds_are_usable(cls, value: int | list[int] | None) -> int | list[int] | None:
        numbers = value if isinstance(value, list) else []
        if (
            isinstance(value, int)
            and value < 1
            or value == []
            or any(n < 0 for n in numbers)
        ):
            raise ValueError(
                "expected a count of at least 1, or a list of repetition numbers from 0"
            )
        if len(set(numbers)) != len(numbers):
            raise ValueError("the same repetition is listed twice")
        return value

    @field_validator("suites")
    @classmethod
    def _suites_are_distinct(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("the same suite is listed twice")
        return value

    @property
    def mirror_folder(self) -> Path | None:
        """The mirror from the configuration, or else from the variable WINNOW_MIRROR."""
        named = self.mirror or os.environ.get("WINNOW_MIRROR") or None
        return Path(named).expanduser() if named else None

    @property
    def scale_folder(self) -> Path:
        return Path(self.store) / self.scale


def load_config(
    values: dict[str, Any], file: str = "config.yaml or --config"
) -> Config:
    """Validate merged settings; every mistake is one `UserError`."""
    return validate(Config, values, file)
