"""From a suite and a scale to its cells, and the specs of every stage that they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from winnow import registry
from winnow.errors import UserError, one_of, unknown
from winnow.plan.catalogue import DatasetEntry, varied
from winnow.plan.claims import Length
from winnow.plan.config import Config
from winnow.plan.evaluations import Evaluations
from winnow.plan.graph import Cell, Graph
from winnow.plan.grid import Grid, round_half_up
from winnow.plan.plugins import parameters, resolve
from winnow.plan.sets import Sets
from winnow.plan.specs import Ref
from winnow.plan.suite import Scale, Suite
from winnow.plan.trainings import Trainings


def expand(graph: Graph, suite: Suite, config: Config, catalogue: Mapping[str, DatasetEntry]) -> None:
    """Add one suite at the configured scale to the graph."""
    file = f"suites/{suite.name}.yaml"
    if config.scale not in suite.scales:
        raise unknown("scale", config.scale, suite.scales, f"{file}: scales")
    cells: list[Cell] = []
    for label, scale in suite.scales[config.scale].items():
        where, dataset = f"{file}: scales.{config.scale}.{label}", scale.dataset or label
        if dataset not in catalogue:
            raise unknown("dataset", dataset, catalogue, f"{file}: scales.{config.scale}.datasets")
        for name, values in scale.signals.items():
            signal = registry.load("signals", name, f"{where}.signals")
            parameters(signal, values, f"{where}.signals.{name}")
        entry = varied(catalogue[dataset], scale.options, where)
        for seeds, report in _chunks(scale, config):
            grid = Grid(graph, suite, config, catalogue, label, entry, scale, seeds, report, where)
            cells.extend(_cells(grid))
    graph.cells[suite.name] = cells


def _chunks(scale: Scale, config: Config) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Group repetitions into jobs: whole chunks, so that ids never depend on how many are asked for."""
    asked = scale.seeds if config.seeds is None else config.seeds
    numbers = list(range(asked)) if isinstance(asked, int) else sorted(asked)
    size = scale.seeds_per_job
    for chunk in sorted({number // size for number in numbers}):
        whole = tuple(range(chunk * size, (chunk + 1) * size))
        yield whole, tuple(number for number in numbers if number in whole)


def _cells(grid: Grid) -> Iterator[Cell]:
    """Yield the cells of all arms that the grid runs."""
    scale, arms = grid.scale, grid.suite.arms
    used = {arm.method for arm in arms.values()}
    used |= {arm.start.method for arm in arms.values() if arm.start is not None}
    for method in scale.methods:
        if method not in used:
            raise unknown("method", method, used, f"{grid.where}.methods")
    for name in scale.arms if scale.arms is not None else list(arms):
        points = list(grid.points(name))
        if not points:
            raise UserError(
                f"{grid.where}: arm '{name}' has no share of the data in this grid. Give it one of "
                f"{one_of(share for listed in scale.fractions.values() for share in listed)} in"
                " `arm_fractions`, or list the `arms` to run without it."
            )
        yield from _arm_cells(grid, name, points)


def _arm_cells(grid: Grid, name: str, points: list[tuple[Length, float]]) -> Iterator[Cell]:
    """Yield one arm's cells, once their jobs are in the graph."""
    arm, where = grid.arm(name), grid.arm_where(name)
    trainings = Trainings(grid, arm, where)
    sets, evaluations = Sets(grid, trainings), Evaluations(grid, trainings)
    method = grid.method(arm, where)
    own = {**grid.scale.methods.get(arm.method, {}), **arm.params}
    variant, params = resolve(method, arm.variant, own, where)
    for key in ("start", "student"):
        if getattr(arm, key) and method.room != "distill":
            raise UserError(f"{where}.{key}: '{method.name}' makes no examples; remove this key.")
    nested = method.nested(params)
    for length, fraction in points:
        budget, upstream = round_half_up(fraction * grid.n), list[Ref]()
        subset, synthetic = None, None
        if method.room == "distill":
            synthetic = sets.distill(method, variant, params, budget, fraction, upstream)
            upstream.append(synthetic)
        elif arm.role != "reference":
            subset = sets.select(method, variant, params, None if nested else budget, fraction, upstream)
            upstream.append(subset)
        cut = budget if nested else None
        train = trainings.train(
            "training", subset, cut, fraction, length, synthetic=synthetic, upstream=upstream
        )
        yield Cell(
            arm=name,
            method=arm.method,
            variant=variant,
            dataset=grid.label,
            fraction=fraction,
            length=length,
            report_seeds=grid.report,
            data=grid.data,
            evaluate=evaluations.evaluate(train, grid.scale.evaluation, "evaluation"),
            measures=tuple(evaluations.measures(subset or synthetic, cut, budget)),
            train=train,
            select=subset,
            synthetic=synthetic,
            upstream=tuple(dict.fromkeys(upstream)),
        )
