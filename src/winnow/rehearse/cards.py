"""GPUs that a plan can be rehearsed for, and how long counted work takes on one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat

from winnow.errors import unknown
from winnow.plan.yamlfile import load_yaml, validate
from winnow.rehearse.measures import Counts

FILE = Path(__file__).with_name("cards.yaml")
Precision = Literal["fp32", "bf16"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Peaks(_Model):
    fp32: PositiveFloat
    tf32: PositiveFloat | None
    bf16: PositiveFloat | None


class Assumed(_Model):
    """What is taken for granted of every card; `cards.yaml` says what each number means."""

    compute: PositiveFloat
    traffic: PositiveFloat
    launch_s: PositiveFloat
    start_s: PositiveFloat
    context_gb: PositiveFloat
    host_gb: PositiveFloat


class Entry(_Model):
    title: str
    memory: PositiveFloat
    bandwidth: PositiveFloat
    tflops: Peaks


class Table(_Model):
    assumed: Assumed
    cards: dict[str, Entry]


class Card(_Model):
    """One card with the assumptions made of it."""

    name: str
    entry: Entry
    assumed: Assumed

    def precision(self, wanted: str) -> Precision:
        """Return what a trainer's `auto`, `bf16` or `fp32` means on this card."""
        return "bf16" if wanted != "fp32" and self.entry.tflops.bf16 else "fp32"

    def seconds(self, counts: Counts, precision: Precision) -> float:
        """Return the time of counted work: products at their rate, the rest at the memory's, and never
        less than the operations take to launch.
        """
        peaks = self.entry.tflops
        peak = (peaks.bf16 if precision == "bf16" else peaks.tf32) or peaks.fp32
        busy = counts.flops / (peak * 1e12 * self.assumed.compute)
        busy += counts.traffic / (self.entry.bandwidth * 1e9 * self.assumed.traffic)
        return max(busy, counts.operations * self.assumed.launch_s)


def card_names() -> list[str]:
    """Return the names of all cards in the table, sorted."""
    return sorted(_table().cards)


def load_card(name: str) -> Card:
    """Return a card by name; an unknown one is a `UserError`."""
    table = _table()
    if name not in table.cards:
        raise unknown("card", name, table.cards, "--card")
    return Card(name=name, entry=table.cards[name], assumed=table.assumed)


def _table() -> Table:
    return validate(Table, load_yaml(FILE), str(FILE))
