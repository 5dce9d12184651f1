"""The graph of all jobs, shared wherever content is equal, and the cells of each suite."""

from __future__ import annotations

from dataclasses import dataclass, field

from winnow import registry
from winnow.canonical import canonical_json
from winnow.errors import UserError
from winnow.plan.specs import Ref, Spec


@dataclass(frozen=True)
class Node:
    """One job: its spec (also as canonical JSON), its id, and the plugin modules whose code it runs."""

    spec: Spec
    text: str
    id: str
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One point of a suite's grid for a chunk of repetitions: what to report, and where it is."""

    arm: str
    method: str
    variant: str
    dataset: str
    fraction: float
    length: str
    report_seeds: tuple[int, ...]
    data: Ref
    evaluate: Ref
    measures: tuple[Ref, ...]
    """Protocols that look at the selection or the synthetic set itself."""
    train: Ref
    select: Ref | None
    synthetic: Ref | None
    upstream: tuple[Ref, ...]
    """Selection's or distillation's own cost: proxies, experts, signals and itself, in this order."""


@dataclass
class Graph:
    """All nodes by reference, and the cells of each suite."""

    nodes: dict[Ref, Node] = field(default_factory=dict)
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    users: dict[Ref, set[str]] = field(default_factory=dict)

    def add(self, suite: str, spec: Spec, *plugins: registry.Plugin) -> Ref:
        text = spec.json_text()
        name = spec.id(text)
        reference = f"{spec.stage}/{name}"
        present = self.nodes.get(reference)
        if present is None:
            self.nodes[reference] = Node(spec, text, name, tuple(plugin.module for plugin in plugins))
        elif present.text != text:
            raise UserError(
                f"{reference}: two different specs have the same id; change root_seed in config.yaml"
            )
        self.users.setdefault(reference, set()).add(suite)
        return reference


def cells_text(cells: list[Cell]) -> str:
    """Return the canonical text of a suite's cells, the identity of everything drawn from them."""
    return canonical_json([vars(cell) for cell in cells])
