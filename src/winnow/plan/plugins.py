"""What a suite says about a plugin, checked against what the plugin takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from winnow import registry
from winnow.errors import UserError, unknown
from winnow.plan.code import ROOT
from winnow.plan.specs import Plugged
from winnow.plan.yamlfile import explain


def parameters(plugin: registry.Plugin, values: Mapping[str, Any], where: str) -> registry.Params:
    """Return all parameters of a plugin, with `values` for those given; mistakes name `where`."""
    try:
        return plugin.params(**values)
    except ValidationError as error:
        raise explain(error, plugin.params, where) from error


def plugged(plugin: registry.Plugin, values: Mapping[str, Any], where: str) -> Plugged:
    return Plugged(name=plugin.name, params=parameters(plugin, values, where).model_dump(mode="json"))


def resolve(
    method: registry.Plugin, variant: str | None, own: Mapping[str, Any], where: str
) -> tuple[str, registry.Params]:
    """Return the name and the parameters of a method's variant (None: its default one)."""
    name = method.default_variant if variant is None else variant
    if name not in method.variants:
        raise unknown(f"variant of {method.name}", name, method.variants, f"{where}.variant")
    return name, parameters(method, {**method.variants[name], **own}, f"{where}.params")


def check_files(files: Mapping[str, str], where: str) -> None:
    """Refuse files that are not there; files: parameter -> path, absolute or in the repository."""
    for key, path in files.items():
        if not (ROOT / path).exists():
            raise UserError(f"{where}.{key}: '{path}' is not there (looked for at {ROOT / path}).")
