"""YAML files that people write: loading and validation, every mistake told in one readable message."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from winnow.errors import UserError, unknown

Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[int | str, ...]
"""A path of keys and positions, as pydantic gives it."""


class _Strict(yaml.constructor.SafeConstructor):
    """Safe YAML in which a key may appear once only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            is_merge = key_node.tag == "tag:yaml.org,2002:merge"
            key = "<<" if is_merge else self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise _Mistake(line, "a list or mapping cannot be a key")
            if key in seen:
                raise _Mistake(line, f"key '{key}' is repeated (first given in line {seen[key]}); keep one")
            seen[key] = line
        return super().construct_mapping(node, deep)


class _Loader(_Strict, yaml.SafeLoader):
    """Strict YAML, whose mistakes PyYAML's own parser tells in the most words."""


class _FastLoader(_Strict, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, which PyYAML is built with where it can be: ten times as fast."""


# YAML 1.1 reads `1e-3` as text because it wants a point; YAML 1.2 and every researcher read a number.
for _loader in (_Loader, _FastLoader):
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


class _Mistake(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises `UserError` naming file, line and key for a missing file, a syntax error, a repeated key, or a
    file that is not a mapping.
    """
    try:
        data = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}).") from error
    except _Mistake as error:
        raise UserError(f"{path}, line {error.line}: {error}.") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}.") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise UserError(f"{path}: expected a mapping of keys to values, found {found}.")
    return data


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, Loader=_Loader)


def validate(
    model_class: type[Model],
    data: object,
    file: Path | str,
    at: str = "",
    written: Callable[[Loc], Loc] = lambda loc: loc,
) -> Model:
    """Return `data` as a `model_class`; a `ValidationError` becomes one `UserError`.

    `at` is the key path of `data` within the file (`"cifar10.options"`), put before the path of each mistake.
    `written` gives the key path in the file of a key path in `data`, where they differ.
    """
    try:
        return model_class.model_validate(data)
    except ValidationError as error:
        raise explain(error, model_class, f"{file}: {at}" if at else f"{file}", written) from error


def explain(
    error: ValidationError,
    model_class: type[BaseModel],
    where: str,
    written: Callable[[Loc], Loc] = lambda loc: loc,
) -> UserError:
    """Return one `UserError` for all mistakes found, each told once.

    `where` is `"file"` or `"file: key.path"`; `written`: see `validate`.
    """
    told = [_describe(model_class, item, where, written) for item in error.errors()]
    lines = list(dict.fromkeys(told))
    return UserError(lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} mistakes:", *lines]))


def _describe(
    model_class: type[BaseModel], item: ErrorDetails, where: str, written: Callable[[Loc], Loc]
) -> str:
    loc, kind, value = item["loc"], item["type"], item["input"]
    path = written(loc)
    place = _below(where, path)
    if kind == "extra_forbidden":
        return str(unknown("key", loc[-1], _fields_at(model_class, loc[:-1]), _below(where, path[:-1])))
    if kind == "missing":
        return f"{place}: this key is missing."
    if kind in ("literal_error", "enum"):
        accepted = [name.strip(" '") for name in re.split(r",| or ", str(item["ctx"]["expected"]))]
        return str(unknown("value", value, accepted, place))
    if kind == "value_error":
        return f"{place}: {item['msg'].removeprefix('Value error, ')}"
    accepted_text = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{place}: {_short(value)} is not accepted. Accepted: {accepted_text}."


def _below(where: str, loc: Loc) -> str:
    """Append a location to a place: `file: cifar10` and ("files", 0) give `file: cifar10.files[0]`."""
    has_keys = ": " in where
    for part in (part for part in loc if part != "[key]"):
        text = f"[{part}]" if isinstance(part, int) else part if not has_keys else f".{part}"
        where += text if has_keys else f": {text}"
        has_keys = True
    return where


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields_at(model_class: type[BaseModel], loc: Loc) -> list[str]:
    """Return the names of the fields that the model at key path `loc` accepts."""
    found = [model_class]
    for part in loc:
        fields = [model.model_fields[part] for model in found if part in model.model_fields]
        found = [inner for field in fields for inner in _models_in(field.annotation)] or found
    return [name for model in found for name in model.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple, dict):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []
