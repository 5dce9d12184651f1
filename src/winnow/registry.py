"""Plugins: one file each, found by name, described by data.

A plugin module lives in one of the rooms below, is named after the plugin, and calls
:func:`plugin` once. It must import without torch (put heavy imports inside functions):
the planner reads its parameters and needs on machines that only plan.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from winnow.errors import UserError, unknown

if TYPE_CHECKING:
    from winnow.plan.catalogue import DatasetEntry

ROOMS = ("select", "distill", "signals", "train", "models", "evaluate")


class Params(BaseModel):
    """Parameters of a plugin: frozen, typed, with defaults and ranges; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Signals = Mapping[str, Mapping[str, Any]]
Metrics = Callable[[Any, "DatasetEntry", Mapping[str, "DatasetEntry"]], Collection[str]]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Plugin:
    """What the planner knows of one method, signal, trainer, model or protocol."""

    room: str
    name: str
    module: str
    function: Callable[..., Any]
    params: type[Params]
    variants: Mapping[str, Mapping[str, Any]]
    source: str
    needs: Callable[[Any], Signals]
    nested: Callable[[Any], bool]
    resamples: bool
    groups: Callable[[Any, int], int] | None
    version: int
    metrics: Metrics | None

    @property
    def default_variant(self) -> str:
        return next(iter(self.variants))


def _needs_nothing(_: Any) -> Signals:
    return {}


def _not_nested(_: Any) -> bool:
    return False


def plugin(
    *,
    params: type[Params] = Params,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    source: str = "",
    needs: Callable[[Any], Signals] = _needs_nothing,
    nested: Callable[[Any], bool] = _not_nested,
    resamples: bool = False,
    groups: Callable[[Any, int], int] | None = None,
    version: int = 1,
    metrics: Metrics | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function under its module's name.

    params: parameter class. variants: name -> parameter values that differ from the defaults, the
    first one is used when a suite names none. needs: signals (name -> their parameters) for given
    parameters. nested: whether one full ordering serves every budget. resamples: whether a method
    takes the whole pool (fraction 1) and decides how often, or how much, each example counts.
    groups: of a signal that divides the pool, into how many at most, for given parameters and classes of the
    dataset: on stand-ins, an untrained model finds fewer. version: of a protocol's metrics; raise it with
    every fix. metrics: the names of all that a protocol may measure, for given parameters, dataset and
    datasets of `transfer`; without it a suite that ranks by another one is found out only at its end.
    """

    def register(function: Function) -> Function:
        room, name = function.__module__.split(".")[-2:]
        table = MappingProxyType({key: dict(value) for key, value in (variants or {"default": {}}).items()})
        _PLUGINS[room, name] = Plugin(
            room,
            name,
            function.__module__,
            function,
            params,
            table,
            source,
            needs,
            nested,
            resamples,
            groups,
            version,
            metrics,
        )
        return function

    return register


_PLUGINS: dict[tuple[str, str], Plugin] = {}


def load(room: str, name: str, where: str) -> Plugin:
    """Return a plugin by room and name; `where` says in the error which file and key named it."""
    if (room, name) not in _PLUGINS and name in modules(room):
        importlib.import_module(f"winnow.{room}.{name}")
    if (room, name) not in _PLUGINS:
        if name in modules(room):
            raise UserError(f"winnow/{room}/{name}.py: no function in it is decorated with @plugin; add it.")
        raise unknown(_singular(room), name, names(room), where)
    return _PLUGINS[room, name]


def names(room: str) -> list[str]:
    """Return the names of all plugins of a room, sorted."""
    for module in modules(room):
        importlib.import_module(f"winnow.{room}.{module}")
    return sorted(name for found, name in _PLUGINS if found == room)


def modules(room: str) -> list[str]:
    """Return the names of all plugins of a room, none of which is imported for this."""
    return list(_listed(tuple(importlib.import_module(f"winnow.{room}").__path__)))


@cache
def _listed(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Look at the folders once: a plan asks for each of its arms."""
    found = pkgutil.iter_modules(folders)
    return tuple(m.name for m in found if not m.name.startswith("_") and not m.ispkg)


def _singular(room: str) -> str:
    return {
        "select": "method",
        "distill": "method",
        "signals": "signal",
        "train": "trainer",
        "models": "model",
        "evaluate": "protocol",
    }[room]
