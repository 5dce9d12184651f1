"""From artefacts to the long table of metrics, every cost beside the value it paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from winnow.errors import UserError, one_of
from winnow.evidence.metrics import check_metrics
from winnow.plan.graph import Cell
from winnow.plan.plan import Plan
from winnow.store import MANIFEST, again, content_digest, read_json, verified


def collect_suite(plan: Plan, suite: str) -> pd.DataFrame:
    """Return the metrics of every cell and repetition of a suite; a missing one is an error."""
    reader = _Reader(plan)
    rows = [
        row
        for cell in plan.graph.cells[suite]
        for seed in cell.report_seeds
        for row in _rows(reader, suite, cell, seed)
    ]
    table = pd.DataFrame(rows)
    trained = table.dropna(subset="precision")  # a model that was not trained has none
    for dataset, found in trained.groupby("dataset")["precision"].unique().items():
        if len(found) > 1:
            raise UserError(
                f"{suite}, {dataset}: models were trained in {one_of(found)}; compare in one precision. "
                "Set `precision` of the trainer in the suite, or delete the models of one kind and run again."
            )
    return check_metrics(
        table.sort_values(["dataset", "arm", "length", "fraction", "seed", "metric"], ignore_index=True)
    )


NOTHING = {"wall_s": 0.0, "cpu_s": 0.0}


class _Reader:
    """Reads each artefact's provenance once, and refuses what other code, spec or inputs made."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.store = plan, plan.config.scale_folder
        self.seen: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, str] = {}

    def provenance(self, reference: str) -> dict[str, Any]:
        if reference not in self.seen:
            self._check_identity(reference)
            self.seen[reference] = read_json(verified(self.store / reference, "provenance.json"))
        return self.seen[reference]

    def _check_identity(self, reference: str) -> None:
        folder = self.store / reference
        identity = read_json(folder / MANIFEST)["identity"]
        for key, value in self.plan.identity(reference, self._content).items():
            if identity[key] != value:
                raise UserError(f"{folder}: made from another {key} than the present. {again(folder)}")

    def _content(self, reference: str) -> str:
        if reference not in self.contents:
            self.contents[reference] = content_digest(self.store / reference)
        return self.contents[reference]

    def cost(self, references: tuple[str, ...], seed: int, what: str = "") -> tuple[float, float]:
        """Return (wall, CPU) seconds that one repetition took in these artefacts together.

        what: " scoring" for the part of a training that measures its model.
        """
        costs = [
            self.provenance(reference)["costs"].get(f"{seed}{what}", NOTHING) for reference in references
        ]
        return sum(cost["wall_s"] for cost in costs), sum(cost["cpu_s"] for cost in costs)


def _rows(reader: _Reader, suite: str, cell: Cell, seed: int) -> list[dict[str, Any]]:
    """Return the metrics of one repetition of a cell. What `measures` took is no arm's cost: full data, which
    costs are relative to, have none.
    """
    evaluations = (cell.evaluate, *cell.measures)
    chain = (*cell.upstream, cell.train, cell.evaluate)
    selection, training = (reader.cost(cell.upstream, seed), reader.cost((cell.train,), seed))
    scoring = reader.cost((cell.train,), seed, " scoring")
    evaluation = tuple(a + b for a, b in zip(reader.cost((cell.evaluate,), seed), scoring, strict=True))
    trained = reader.provenance(cell.train)
    for checked in (cell.data, *cell.measures):
        reader.provenance(checked)
    common = {
        "suite": suite,
        "arm": cell.arm,
        "method": cell.method,
        "variant": cell.variant,
        "dataset": cell.dataset,
        "fraction": cell.fraction,
        "length": cell.length,
        "budget": trained["examples"][str(seed)],
        "seed": seed,
        "selection_wall_s": selection[0],
        "selection_cpu_s": selection[1],
        "training_wall_s": training[0],
        "training_cpu_s": training[1],
        "evaluation_wall_s": evaluation[0],
        "evaluation_cpu_s": evaluation[1],
        "total_wall_s": selection[0] + training[0] + evaluation[0],
        "peak_memory_gb": max(reader.provenance(reference)["peak_rss_gb"] for reference in chain),
        "bytes_written": sum(reader.provenance(reference)["bytes_written"] for reference in chain),
        "device": trained["device_used"],
        "precision": trained.get("precision_used", ""),
    }
    return [
        common
        | {"metric": name, "value": row["value"], "n": row["n"], "metric_version": version, "artefact": place}
        for place in evaluations
        for version, metrics in [_measured(reader, place, seed)]
        for name, row in sorted(metrics.items())
    ]


def _measured(reader: _Reader, reference: str, seed: int) -> tuple[int, dict[str, Any]]:
    path = verified(reader.store / reference, f"s{seed}/metrics.json")
    measured = read_json(path)
    if not measured["metrics"]:
        raise UserError(f"{path}: no metric in it. Delete {path.parent.parent} and run again.")
    return int(measured["version"]), measured["metrics"]


def provenance_rows(plan: Plan, suites: list[str]) -> list[dict[str, Any]]:
    """Return one row per artefact of the suites: what it cost, where and with which code it was made."""
    store = plan.config.scale_folder
    wanted = sorted(reference for reference, users in plan.graph.users.items() if users & set(suites))
    return [_provenance_row(store / reference) for reference in wanted]


def _provenance_row(folder: Path) -> dict[str, Any]:
    facts = read_json(verified(folder, "provenance.json"))
    return {
        "id": folder.name,
        "stage": folder.parent.name,
        "wall_s": facts["wall_s"],
        "cpu_s": facts["cpu_s"],
        "peak_rss_gb": facts["peak_rss_gb"],
        "peak_gpu_gb": facts["peak_gpu_gb"],
        "bytes": facts["bytes_written"],
        "host": facts["machine"]["host"],
        "device": facts.get("device_used", "cpu"),
        "code": read_json(folder / MANIFEST)["identity"]["code"],
        "facts": facts,
    }
