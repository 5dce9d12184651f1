"""Which jobs are one job on a cluster: a training, and the evaluations that wait for it alone."""

from __future__ import annotations

from winnow.plan.graph import Graph
from winnow.plan.specs import EvaluateSpec, Ref, TrainSpec


def grouped(graph: Graph) -> dict[Ref, str]:
    """Return the groups, by reference, of the trainings and evaluations that are in one.

    An evaluation joins its training if all else that it reads follows from less than that training does, so
    that no group waits for itself, alone or by way of others: a student may learn from a teacher that made
    its data, and both have groups of their own.
    """
    trainings = _trainings_behind(graph)
    groups: dict[Ref, str] = {}
    for reference, node in graph.nodes.items():
        if not isinstance(node.spec, EvaluateSpec):
            continue
        uses = node.spec.inputs().values()
        own = [use for use in uses if isinstance(graph.nodes[use].spec, TrainSpec)]
        if len(own) == 1 and all(trainings[use] < trainings[own[0]] for use in uses if use != own[0]):
            groups[reference] = groups[own[0]] = f"cell-{graph.nodes[own[0]].id}"
    return groups


def _trainings_behind(graph: Graph) -> dict[Ref, frozenset[Ref]]:
    """Return the trainings that each artefact follows from, itself among them."""
    found: dict[Ref, frozenset[Ref]] = {}
    for reference, node in graph.nodes.items():  # inputs come first
        behind = frozenset[Ref]().union(*(found[use] for use in node.spec.inputs().values()))
        found[reference] = behind | {reference} if isinstance(node.spec, TrainSpec) else behind
    return found
