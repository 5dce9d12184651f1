"""What a plan would run, download and cost, as far as earlier runs tell."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from winnow.plan.plan import Plan
from winnow.plan.specs import PrepareSpec, Spec, TrainSpec


@dataclass(frozen=True)
class StageEstimate:
    """One stage of a plan. Times are wall seconds of one processor slot; None where nothing is known."""

    stage: str
    jobs: int
    done: int
    shared: int
    seconds_to_do: float | None
    unknown: int
    bytes_written: int | None


@dataclass(frozen=True)
class DownloadEstimate:
    """One dataset: bytes of all its files, and of those that are not there yet.

    None where they are known only once they have come: of a crawl, and of a test set from a hub.
    """

    dataset: str
    bytes_total: int | None
    bytes_to_fetch: int | None


def estimate_stages(plan: Plan) -> list[StageEstimate]:
    """Return the stages in order of first use.

    A job that is not done is given the median time per unit of work of the finished jobs of its stage
    and settings at this scale (for training, per share of an epoch); without any, its time is unknown.
    """
    known: dict[str, list[tuple[float, int]]] = defaultdict(list)
    groups: dict[str, list[tuple[str, float, dict[str, float] | None]]] = defaultdict(list)
    for reference, node in plan.graph.nodes.items():
        facts = _facts(plan.places[reference])
        work = _work(plan, node.spec)
        groups[node.spec.stage].append((reference, work, facts))
        if facts:
            known[node.spec.stage].append((facts["wall_s"] / work, int(facts["bytes_written"])))
    return [_summarise(plan, stage, jobs, known[stage]) for stage, jobs in groups.items()]


def _work(plan: Plan, spec: Spec) -> float:
    """Return the passes over the whole pool that a training's repetitions take, and 1 for any other job."""
    if not isinstance(spec, TrainSpec):
        return 1.0
    data = plan.graph.nodes[spec.data].spec
    assert isinstance(data, PrepareSpec)
    sizes = split_sizes(data)
    passes = spec.epochs * (1.0 if spec.steps_as is not None else spec.fraction)
    # A subset smaller than a batch is shown whole in each of its steps.
    pool = sum(sizes[split] for split in data.pool)
    rows = pool if spec.subset is None else spec.fraction * pool
    least = spec.min_steps * min(spec.batch_size, rows) / pool
    return len(spec.seeds) * max(passes, least)


def split_sizes(spec: PrepareSpec) -> dict[str, int]:
    """Return the number of examples of every split after limits and the held-out part."""
    sizes = {str(split): int(n) for split, n in spec.entry["splits"].items()}
    if spec.holdout:
        sizes["train"] -= spec.holdout
        sizes["validation"] = spec.holdout
    return {split: spec.limits.get(split, n) for split, n in sizes.items()}


def _summarise(
    plan: Plan,
    stage: str,
    jobs: list[tuple[str, float, dict[str, float] | None]],
    known: list[tuple[float, int]],
) -> StageEstimate:
    missing = [work for _, work, facts in jobs if facts is None]
    rate = median(per_work for per_work, _ in known) if known else None
    return StageEstimate(
        stage=stage,
        jobs=len(jobs),
        done=len(jobs) - len(missing),
        shared=sum(len(plan.graph.users[reference]) > 1 for reference, _, _ in jobs),
        seconds_to_do=None if rate is None else rate * sum(missing),
        unknown=len(missing) if rate is None else 0,
        bytes_written=int(median(size for _, size in known)) * len(jobs) if known else None,
    )


def _facts(folder: Path) -> dict[str, float] | None:
    try:
        return dict(json.loads((folder / "provenance.json").read_text()))
    except (OSError, ValueError):
        return None


def estimate_downloads(plan: Plan) -> list[DownloadEstimate]:
    """Return the datasets of the plan with the bytes that `download` would fetch."""
    found = []
    for dataset in plan.datasets:
        entry, files = plan.catalogue[dataset], plan.catalogue[dataset].files
        if entry.crawl is not None or entry.hub is not None:
            is_there = all(place.is_file() for place in plan.target_places(dataset))
            found.append(DownloadEstimate(dataset, None, 0 if is_there else None))
            continue
        here = [target.is_file() for target in plan.download_places(dataset)]
        missing = sum(file.bytes for file, there in zip(files, here, strict=True) if not there)
        found.append(DownloadEstimate(dataset, sum(file.bytes for file in files), missing))
    return found


def seeds_beyond_request(plan: Plan) -> int:
    """Return how many repetitions are computed only because jobs hold whole chunks of them."""
    reported: dict[str, set[int]] = defaultdict(set)
    for cells in plan.graph.cells.values():
        for cell in cells:
            reported[cell.train] |= set(cell.report_seeds)
    planned = {
        reference: set(node.spec.seeds)
        for reference, node in plan.graph.nodes.items()
        if isinstance(node.spec, TrainSpec)
    }
    return max((len(seeds - reported[r]) for r, seeds in planned.items() if r in reported), default=0)
