"""What a suite ranks by and draws, against what its protocols measure on the data of a scale."""

from __future__ import annotations

from collections.abc import Mapping

from winnow import registry
from winnow.errors import UserError, one_of
from winnow.plan.catalogue import DatasetEntry
from winnow.plan.config import ScaleName
from winnow.plan.plugins import parameters
from winnow.plan.suite import Scale, Suite


def check_metrics(suite: Suite, scale: ScaleName, catalogue: Mapping[str, DatasetEntry]) -> None:
    """Refuse a metric that is measured on no dataset of the scale: the report could not be made.

    Nothing is refused where a protocol does not declare its metrics.
    """
    measured, unlabelled = set[str](), list[str]()
    for label, grid in suite.scales[scale].items():
        entry, where = catalogue[grid.dataset or label], f"suites/{suite.name}.yaml: scales.{scale}.{label}"
        found = _measured(grid, entry, catalogue, where)
        if found is None:
            return
        measured |= found
        unlabelled += [] if entry.class_count else [label]
    asked = {"metric": suite.metric}
    for figure in suite.figures_at(scale):
        if isinstance(named := figure.options.get("metric"), str):
            asked[f"figures: {figure.name or figure.figure}: options.metric"] = named
    for key, metric in asked.items():
        if metric not in measured:
            why = f", and there are no classes in {one_of(unlabelled)}" if unlabelled else ""
            raise UserError(
                f"suites/{suite.name}.yaml: {key}: '{metric}' is measured on no dataset at the scale {scale}"
                f"{why}. Accepted: {one_of(measured)}."
            )


def _measured(
    grid: Scale, entry: DatasetEntry, catalogue: Mapping[str, DatasetEntry], where: str
) -> set[str] | None:
    """Return all metrics of a grid, or None where a protocol does not say."""
    transfer, found = {name: catalogue[name] for name in grid.transfer}, set[str]()
    uses = {"evaluation": grid.evaluation}
    uses |= {f"measures[{place}]": use for place, use in enumerate(grid.measures)}
    for key, use in uses.items():
        protocol = registry.load("evaluate", use.name, f"{where}.{key}.name")
        if protocol.metrics is None:
            return None
        found |= set(
            protocol.metrics(parameters(protocol, use.params, f"{where}.{key}.params"), entry, transfer)
        )
    return found
