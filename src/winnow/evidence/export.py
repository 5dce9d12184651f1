"""The registry: subsets, scores and synthetic sets, under example identifiers that outlive the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from winnow.canonical import sha256_file
from winnow.data.dataset import Dataset
from winnow.plan.graph import Cell
from winnow.plan.plan import Plan
from winnow.store import read_json, verified, write_json
from winnow.tables import read_table, write_table


def export_suite(plan: Plan, suite: str, out: Path) -> None:
    """Write one Parquet table per subset and score, and `registry.json` with what each one is.

    A subset has columns example_id, index, weight, rank, and holds `rounds` parts of equal size; a score
    has example_id, score, and its entry says which end to keep. Synthetic sets are copied. Each entry gives
    sha256, method, variant, parameters, seed, and the spec.
    """
    store = plan.config.scale_folder
    ids: dict[str, list[str]] = {}
    entries: list[dict[str, Any]] = []
    done: set[tuple[str, int, float]] = set()
    for cell in plan.graph.cells[suite]:
        ids.setdefault(cell.data, [])
        ids[cell.data] = ids[cell.data] or Dataset.open(store / cell.data).pool_ids()
        for seed in cell.report_seeds:
            if cell.select and (cell.select, seed, cell.fraction) not in done:
                done.add((cell.select, seed, cell.fraction))
                entries += _export(plan, cell, cell.select, seed, ids[cell.data], out)
            if cell.synthetic and (cell.synthetic, seed, cell.fraction) not in done:
                done.add((cell.synthetic, seed, cell.fraction))
                entries.append(_export_synthetic(plan, cell, cell.synthetic, seed, out))
    write_json(out / "registry.json", {"suite": suite, "scale": plan.config.scale, "tables": entries})


def _export(
    plan: Plan, cell: Cell, select: str, seed: int, ids: list[str], out: Path
) -> list[dict[str, Any]]:
    folder = plan.config.scale_folder / select
    facts = read_json(verified(folder, f"s{seed}/facts.json"))
    budget = plan.graph.nodes[cell.train].spec.model_dump()["budget"]
    subset = read_table(verified(folder, f"s{seed}/subset.parquet"))[:budget]
    subset.insert(0, "example_id", [ids[i] for i in subset["index"]])
    name = f"{select.split('/')[1]}-f{cell.fraction:.3f}-s{seed}"
    common = _entry(plan, cell, select, seed)
    subset_facts = common | {"kind": "subset", "n": len(subset), "rounds": facts["rounds"]}
    entries = [_write(out, f"{name}.subset.parquet", subset, subset_facts)]
    scores = folder / f"s{seed}" / "scores.parquet"
    if scores.is_file():
        table = read_table(verified(folder, f"s{seed}/scores.parquet"))
        table.insert(0, "example_id", [ids[i] for i in table["index"]])
        score = common | {"kind": "score", "n": len(table), "keep": facts["keep"]}
        entries.append(_write(out, f"{name}.score.parquet", table, score))
    return entries


def _export_synthetic(plan: Plan, cell: Cell, synthetic: str, seed: int, out: Path) -> dict[str, Any]:
    folder = plan.config.scale_folder / synthetic
    facts: dict[str, Any] = read_json(verified(folder, f"s{seed}/facts.json"))
    name = f"{synthetic.split('/')[1]}-s{seed}.synthetic.safetensors"
    shutil.copyfile(verified(folder, f"s{seed}/synthetic.safetensors"), out / name)
    written = {"kind": "synthetic", "file": name, "sha256": sha256_file(out / name)}
    return _entry(plan, cell, synthetic, seed) | facts | written


def _entry(plan: Plan, cell: Cell, select: str, seed: int) -> dict[str, Any]:
    spec = plan.graph.nodes[select].spec
    return {
        "dataset": cell.dataset,
        "arm": cell.arm,
        "method": cell.method,
        "variant": cell.variant,
        "fraction": cell.fraction,
        "seed": seed,
        "artefact": select,
        "spec": spec.model_dump(mode="json"),
    }


def _write(out: Path, name: str, table: pd.DataFrame, entry: dict[str, Any]) -> dict[str, Any]:
    write_table(out / name, table)
    return entry | {"file": name, "sha256": sha256_file(out / name)}
