"""Figures: functions from one tidy table to axes, each a module with TABLE, TITLE, CAPTION and `draw`."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, Protocol, cast

import pandas as pd
from matplotlib.figure import Figure

from winnow.errors import unknown


class FigureModule(Protocol):
    """What a module must offer to be a figure.

    TABLE says which table it is drawn from: "summary", one row per cell and metric with mean, interval and
    costs (`winnow.figures.layout.join_cost`), or "values", one row per cell, seed and metric, for figures
    that pair or fit over seeds.
    """

    TABLE: Literal["summary", "values"]
    TITLE: str
    CAPTION: str

    def draw(
        self, table: pd.DataFrame, arms: dict[str, dict[str, Any]], **options: Any
    ) -> tuple[Figure, pd.DataFrame]:
        """Return the figure and the rows that it shows."""


def available() -> list[str]:
    """Return the names of the figures: the modules of this package that have a `draw`."""
    return [name for name in _modules() if hasattr(import_module(f"{__name__}.{name}"), "draw")]


def _modules() -> list[str]:
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> FigureModule:
    """Return the figure module of this name.

    Raises:
        UserError: there is no such figure; the message lists those there are.
    """
    module = import_module(f"{__name__}.{name}") if name in _modules() else None
    if not hasattr(module, "draw"):
        raise unknown("figure", name, available(), "figures")
    return cast(FigureModule, module)


def draw(
    name: str, table: pd.DataFrame, arms: dict[str, dict[str, Any]], **options: Any
) -> tuple[Figure, pd.DataFrame]:
    """Draw the figure of this name.

    Args:
        name: a figure module's name.
        table: the table that the figure's TABLE names.
        arms: arm -> {label, role}, all arms of the suite.
        options: what the figure's own `draw` takes after the two tables.

    Raises:
        UserError: the figure or an option is not known.
    """
    module = load(name)
    accepted = list(inspect.signature(module.draw).parameters)[2:]
    for option in options:
        if option not in accepted:
            raise unknown("option", option, accepted, f"figure '{name}'")
    return module.draw(table, arms, **options)
