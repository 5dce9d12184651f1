"""`config.yaml` and `--config`: what to run, where, and with which seeds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from winnow.plan.yamlfile import validate

ScaleName = Literal["demo", "small", "paper"]

RESULTS = Path("results")
SUITES = "a list of distinct names of files in suites/, such as [sas]"
SEEDS = "a count of at least 1, a list of distinct repetition numbers from 0, or null"
DEVICES = "auto, cpu, cuda or cuda:N"


class Config(BaseModel):
    """The run's settings; `config.yaml` documents each key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: ScaleName = "demo"
    suites: list[str] = ["sas"]
    seeds: int | list[int] | None = None
    root_seed: int = Field(default=0, ge=0, strict=True)
    mirror: str | None = None
    store: str = Field(default="results", min_length=1)
    device: str = "auto"

    @field_validator("suites", mode="before")
    @classmethod
    def _suites_are_named(cls, value: object) -> object:
        names = value if isinstance(value, list) else []
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"{value!r} is not accepted. Accepted: {SUITES}.")
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_are_usable(cls, value: object) -> object:
        numbers = value if isinstance(value, list) else [value]
        least = 0 if isinstance(value, list) else 1
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in numbers)
        if value is not None and (not numbers or not whole or len(set(numbers)) < len(numbers)):
            raise ValueError(f"{value!r} is not accepted. Accepted: {SEEDS}.")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError(f"{value!r} is not accepted. Accepted: {DEVICES}.")
        return value

    @property
    def mirror_folder(self) -> Path | None:
        """The mirror from the configuration, or else from the variable WINNOW_MIRROR."""
        named = self.mirror or os.environ.get("WINNOW_MIRROR") or None
        return Path(named).expanduser() if named else None

    @property
    def scale_folder(self) -> Path:
        """The clone's own folder: tables, figures, report, logs, and its artefacts or links to them."""
        return RESULTS / self.scale

    @property
    def shared_store(self) -> Path | None:
        """Where artefacts and downloads are when that is not this clone's own folder."""
        store = Path(self.store).expanduser().resolve()
        return None if store == RESULTS.resolve() else store


def load_config(values: dict[str, Any], file: str = "config.yaml or --config") -> Config:
    """Validate merged settings; every mistake is one `UserError`."""
    return validate(Config, values, file)
