"""What a cluster runs as one job: never a job that waits for itself."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from winnow.plan.code import ROOT
from winnow.plan.graph import Graph
from winnow.plan.groups import grouped
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import EvaluateSpec, Ref, TrainSpec


@pytest.fixture(scope="module", params=["demo", "small", "paper"])
def plan(request: pytest.FixtureRequest) -> Plan:
    suites = sorted(path.stem for path in (ROOT / "suites").glob("*.yaml"))
    assert "distillation" in suites
    return load_plan({"scale": request.param, "suites": suites}, check_sources=False)


def in_order(graph: Graph, groups: dict[Ref, str]) -> list[str]:
    """Return the jobs as a cluster could run them; raises where some wait for each other."""
    waits: dict[str, set[str]] = {}
    for reference, node in graph.nodes.items():
        own = groups.get(reference, reference)
        others = {groups.get(use, use) for use in node.spec.inputs().values()}
        waits.setdefault(own, set()).update(others - {own})
    return list(TopologicalSorter(waits).static_order())


def test_jobs_wait_for_others_only(plan: Plan) -> None:
    groups = grouped(plan.graph)
    jobs = in_order(plan.graph, groups)
    assert len(jobs) == len(plan.graph.nodes) - len(groups) + len(set(groups.values()))


def test_a_group_is_a_training_and_evaluations_that_read_it(plan: Plan) -> None:
    groups, nodes = grouped(plan.graph), plan.graph.nodes
    trainings = {group: ref for ref, group in groups.items() if isinstance(nodes[ref].spec, TrainSpec)}
    assert set(trainings) == set(groups.values())
    for reference in groups.keys() - set(trainings.values()):
        spec = nodes[reference].spec
        assert isinstance(spec, EvaluateSpec)
        assert trainings[groups[reference]] in spec.inputs().values()


def test_an_evaluation_of_one_model_shares_its_job(plan: Plan) -> None:
    """Its own place in a queue would take longer than itself."""
    groups, nodes = grouped(plan.graph), plan.graph.nodes
    for reference, node in nodes.items():
        if isinstance(node.spec, EvaluateSpec):
            kinds = [nodes[use].spec.stage for use in node.spec.inputs().values()]
            assert (reference in groups) == (kinds.count("train") == 1), reference


def test_a_teacher_and_its_students_are_jobs_of_their_own() -> None:
    """Grouped by what touches, as one name for all would, a student's data waits for its own job."""
    graph = load_plan({"scale": "demo", "suites": ["distillation"]}, check_sources=False).graph
    groups = grouped(graph)
    taught = {
        reference: [use for use in node.spec.inputs().values() if use.startswith("train/")]
        for reference, node in graph.nodes.items()
        if isinstance(node.spec, TrainSpec)
    }
    pairs = [(student, teacher) for student, teachers in taught.items() for teacher in teachers]
    assert pairs
    assert all(groups[student] != groups.get(teacher) for student, teacher in pairs)
    touching = [ref for ref, node in graph.nodes.items() if isinstance(node.spec, TrainSpec | EvaluateSpec)]
    with pytest.raises(CycleError):
        in_order(graph, dict.fromkeys(touching, "cell"))
