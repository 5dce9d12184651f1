"""Code digests: a stage reruns when its code changes, and not when a comment does."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
ROOT = SOURCE.parent

# The plan reaches a stage only through its spec, and messages change no result.
NOT_TRACKED = ("winnow.errors", "winnow.registry")
TRACKED_PLAN = ("winnow.plan.claims", "winnow.plan.catalogue")


def code_digest(script: str, plugins: tuple[str, ...] = ()) -> str:
    """Return 16 hex digits over the syntax trees behind one stage.

    script: name of a file in `scripts/` without its ending. plugins: modules that the stage loads
    by name. The digest covers the script, the plugins and every first-party module that they import
    (docstrings and comments dropped), and the files in `templates/` beside these modules.
    """
    return _digest(script, tuple(sorted(set(plugins))))


@cache
def _digest(script: str, plugins: tuple[str, ...]) -> str:
    path = ROOT / "scripts" / f"{script}.py"
    pending = [*plugins, *_imports(path)]
    seen: set[str] = set()
    while pending:
        module = pending.pop()
        if module not in seen and _is_tracked(module):
            seen.add(module)
            pending.extend(_imports(_file(module)))
    parts = [f"scripts.{script} {_tree_hash(path)}"]
    parts += [f"{module} {_tree_hash(_file(module))}" for module in sorted(seen)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def sources_digest() -> str:
    """Return the sha256 of all first-party code as text: while it stands, so does every `code_digest`."""
    digest = hashlib.sha256()
    for folder in (SOURCE / "winnow", ROOT / "scripts"):
        for path in sorted(path for path in folder.rglob("*") if path.suffix != ".pyc" and path.is_file()):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def figure_options() -> dict[str, tuple[str, ...]]:
    """Return the options of each figure by name, read off the files: importing them would import matplotlib.

    A figure is a module with a function `draw`; its options follow the two tables that all figures take.
    """
    found = {}
    for path in sorted((SOURCE / "winnow" / "figures").glob("[!_]*.py")):
        for node in _parse(path).body:
            if isinstance(node, ast.FunctionDef) and node.name == "draw":
                found[path.stem] = tuple(a.arg for a in [*node.args.args[2:], *node.args.kwonlyargs])
    return found


def _is_tracked(module: str) -> bool:
    """The plan reaches a stage only through its spec, but for how claims and catalogue entries are read."""
    in_plan = module == "winnow.plan" or module.startswith("winnow.plan.")
    return module in TRACKED_PLAN or not (in_plan or module in NOT_TRACKED)


def _file(module: str) -> Path:
    base = SOURCE.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _exists(module: str) -> bool:
    return _file(module).is_file()


@cache
def _parse(path: Path) -> ast.Module:
    """Return a file's syntax tree without docstrings; comments are in no tree."""
    return _without_docstrings(ast.parse(path.read_text(), filename=str(path)))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """First-party modules that a file imports, wherever the import stands, packages included."""
    found: set[str] = set()
    for node in _statements(_parse(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    modules = {name for name in found if name.split(".")[0] == "winnow" and _exists(name)}
    parents = {name.rsplit(".", depth)[0] for name in modules for depth in range(1, name.count(".") + 1)}
    return tuple(sorted(modules | parents))


@cache
def _tree_hash(path: Path) -> str:
    digest = hashlib.sha256(ast.dump(_parse(path), annotate_fields=False).encode())
    for template in sorted((path.parent / "templates").glob("*")):
        digest.update(template.name.encode() + template.read_bytes())
    return digest.hexdigest()


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a tree's statements, wherever they stand; most nodes are expressions, which hold none."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        for within in ("body", "orelse", "finalbody", "handlers", "cases"):
            pending.extend(getattr(node, within, ()))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
