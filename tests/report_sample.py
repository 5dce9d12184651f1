"""Synthetic evidence tables of one small suite, and the report made of them: made-up numbers, real shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from winnow import figures
from winnow.figures import layout, pareto, style
from winnow.report.build import FigureInput, ReportInput, SuiteInput, build_report

ARMS: dict[str, dict[str, Any]] = {
    "full": {"label": "full data", "role": "reference"},
    "random": {"label": "random", "role": "control"},
    "random_quota": {"label": "random, same quotas", "role": "control"},
    "sas_paper": {"label": "SAS (paper)", "role": "method"},
    "sas_released": {"label": "SAS (released)", "role": "method"},
    "sas_lowest": {"label": "lowest row sum", "role": "control"},
}
GAIN = {
    "full": 0.0,
    "random": -0.02,
    "random_quota": -0.012,
    "sas_paper": 0.004,
    "sas_released": -0.004,
}
METRICS = ("test_accuracy", "validation_accuracy")


def summary_table(
    datasets: tuple[str, ...] = ("digits", "fashion_mnist"),
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6),
    arms: dict[str, dict[str, Any]] | None = None,
    n_seeds: int = 3,
    suite: str = "sas",
) -> pd.DataFrame:
    """Return every (arm, dataset, fraction, length, metric); full data at equal epochs only."""
    noise = np.random.default_rng(7)
    rows = []
    for d, dataset in enumerate(datasets):
        for arm, about in (ARMS if arms is None else arms).items():
            reference = about["role"] == "reference"
            for length in ("epochs",) if reference else ("epochs", "steps"):
                for fraction in (1.0,) if reference else fractions:
                    for metric in METRICS:
                        rows.append(
                            _row(
                                noise,
                                suite,
                                arm,
                                dataset,
                                d,
                                fraction,
                                length,
                                metric,
                                n_seeds,
                            )
                        )
    return pd.DataFrame(rows)


def _row(
    noise: np.random.Generator,
    suite: str,
    arm: str,
    dataset: str,
    d: int,
    fraction: float,
    length: str,
    metric: str,
    n_seeds: int,
) -> dict[str, Any]:
    drop = (0.16 if length == "epochs" else 0.09) * (1 - fraction) ** 1.7
    mean = 0.955 - 0.09 * d - drop + GAIN.get(arm, -0.05) * (1.3 - fraction) + noise.normal(0, 0.003)
    half = abs(noise.normal(0.011, 0.003)) if n_seeds > 1 else float("nan")
    method, _, variant = arm.partition("_")
    return {
        "suite": suite,
        "arm": arm,
        "method": method,
        "variant": variant or "default",
        "dataset": dataset,
        "fraction": fraction,
        "length": length,
        "metric": metric,
        "n_seeds": n_seeds,
        "mean": mean,
        "sd": half / 2.5,
        "ci_low": mean - half,
        "ci_high": mean + half,
    }


def cost_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return a cost row for every cell of the summary."""
    cells = summary[layout.CELL].drop_duplicates().reset_index(drop=True)
    free = cells["arm"].isin(["full", "random"])
    training = 40 * np.where(cells["length"] == "steps", 1.0, cells["fraction"]) + 2
    selection = np.where(free, 0.02, 14.0) + np.where(cells["arm"] == "sas_paper", 3.0, 0.0)
    cost = cells.assign(
        selection_wall_s=selection,
        training_wall_s=training,
        evaluation_wall_s=1.4,
        total_wall_s=selection + training + 1.4,
        selection_cpu_s=selection * 1.7,
        training_cpu_s=training * 1.8,
        total_cpu_s=selection * 1.7 + training * 1.8 + 1.4,
        peak_memory_gb=0.61,
        bytes_written=2_400_000,
    )
    full = cost[cost["fraction"] == 1.0].set_index("dataset")["total_cpu_s"]
    return cost.assign(relative_total=cost["total_cpu_s"] / cost["dataset"].map(full))


def claims() -> list[dict[str, Any]]:
    """Return one claim of every verdict."""
    cell = {
        "dataset": "digits",
        "fraction": 0.2,
        "length": "epochs",
        "n_seeds": 3,
        "effect": 0.041,
        "ci_low": 0.032,
        "ci_high": 0.050,
        "p": 0.0041,
        "p_holm": 0.0082,
        "interval": "t",
        "test": "paired t",
        "verdict": "supported",
    }
    worse = {
        **cell,
        "dataset": "fashion_mnist",
        "effect": 0.006,
        "ci_low": -0.004,
        "ci_high": 0.016,
        "p": 0.21,
    }
    worse = {**worse, "p_holm": 0.21, "verdict": "not supported"}
    claim = {
        "id": "sas_beats_random_by_3_points",
        "statement": "SAS subsets beat random subsets of the same size by more than 3 points across datasets",
        "source": "abstract",
        "kind": "superiority",
        "made_at": "paper",
        "scale": "demo",
        "margin": 0.03,
        "metric": "test_accuracy",
        "arm": "sas_paper",
        "baseline": "random",
        "verdict": "not supported",
        "reason": "1 of 2 cells has a lower bound above the margin",
        "cells": [cell, worse],
    }
    single = {
        **cell,
        "n_seeds": 1,
        "ci_low": None,
        "ci_high": None,
        "p": None,
        "p_holm": None,
    }
    return [
        claim,
        {
            **claim,
            "id": "a_fifth_can_go",
            "statement": "20 % of the examples can be dropped without loss",
            "kind": "non_inferiority",
            "margin": 0.01,
            "baseline": "full",
            "verdict": "supported",
            "reason": "the lower bound lies above minus 1 point in every cell",
            "cells": [{**cell, "effect": 0.002, "ci_low": -0.003, "ci_high": 0.007}],
        },
        {
            **claim,
            "id": "ratio",
            "statement": "SAS keeps at least 99 % of the full accuracy",
            "kind": "ratio",
            "margin": 0.99,
            "baseline": "full",
            "verdict": "inconclusive",
            "reason": "one seed: no interval",
            "cells": [{**single, "effect": 0.987, "verdict": "inconclusive"}],
        },
        {
            **claim,
            "id": "rank",
            "statement": "The cut value predicts accuracy",
            "kind": "correlation",
            "with": "cut_value",
            "margin": 0.8,
            "verdict": "inconclusive",
            "reason": "no fraction of its own: judged over fractions",
            "cells": [
                {
                    **single,
                    "fraction": None,
                    "effect": 0.91,
                    "verdict": "inconclusive",
                    "note": "3 points",
                }
            ],
        },
        {
            **claim,
            "id": "unmeasured",
            "arm": "sas_paper, sas_released",
            "arms": ["sas_paper", "sas_released"],
            "statement": "Both variants beat random",
            "verdict": "not run",
            "reason": "the metric cut_value is not measured at this scale",
            "cells": [],
        },
    ]


def reproduction_table() -> pd.DataFrame:
    """Return a row of every status."""
    row = {
        "dataset": "cifar100",
        "arm": "sas_paper",
        "metric": "test_accuracy",
        "mark": "second-hand",
    }
    command = "snakemake sas --config scale=paper"
    rows: list[dict[str, Any]] = [
        {
            "fraction": 0.2,
            "paper_value": 0.6035,
            "ours": None,
            "n_seeds": 0,
            "status": "cannot be run here",
        },
        {
            "fraction": 0.4,
            "paper_value": 0.6412,
            "ours": 0.639,
            "n_seeds": 3,
            "status": "reproduced",
        },
        {
            "fraction": 0.6,
            "paper_value": 0.6612,
            "ours": 0.633,
            "n_seeds": 3,
            "status": "differs",
        },
        {
            "fraction": 0.8,
            "paper_value": 0.6712,
            "ours": None,
            "n_seeds": 0,
            "status": "not run",
        },
    ]
    half = 0.006
    return pd.DataFrame(
        {
            **row,
            **item,
            "ci_low": item["ours"] and item["ours"] - half,
            "ci_high": item["ours"] and item["ours"] + half,
            "command": command,
            "reason": "needs a GPU cluster" if not item["ours"] else "",
        }
        for item in rows
    )


ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.9",
    "platform": "Linux 6.1 x86_64, glibc 2.36",
    "cpu_model": "Example CPU at 2.1 GHz",
    "cores": 2,
    "memory_gb": 16.0,
    "device": "cpu",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "started": "2024-05-01T10:00:00Z",
    "finished": "2024-05-01T10:03:12Z",
    "packages": {"numpy": "2.0.0", "scikit-learn": "1.5.0", "torch": "2.11.0"},
}


def provenance(n: int = 24) -> list[dict[str, Any]]:
    """Return `n` artefacts of several stages."""
    stages = ("pretrain", "embed", "select", "train", "evaluate")
    return [
        {
            "id": f"digits-sas-paper-f0.20-s{i}-{i:08x}",
            "stage": stages[i % len(stages)],
            "wall_s": 0.4 * (i * 7 % 11) + 0.2,
            "cpu_s": 0.7 * (i * 5 % 13),
            "peak_rss_gb": 0.41 + 0.01 * i,
            "bytes": 1200 * (i + 1) ** 3,
            "host": "workstation",
            "device": "cpu",
            "code": f"{i * 31:08x}",
        }
        for i in range(n)
    ]


def figure_inputs(
    folder: Path | None,
    names: tuple[str, ...],
    table: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
) -> list[FigureInput]:
    """Draw figures into a folder and return them as the report takes them; without a folder draw none."""
    if folder is None:
        return []
    inputs = []
    for name in names:
        drawn, rows = figures.draw(name, table, arms)
        style.save(drawn, rows, folder / name)
        module = figures.load(name)
        inputs.append(
            FigureInput.read(folder / name, module.TITLE, module.CAPTION, f"figures/sas/{name}.pdf")
        )
    return inputs


def sample_input(folder: Path | None, **changes: Any) -> ReportInput:
    """Return the sample suite as the report's input; `changes` replace fields of the suite.

    Args:
        folder: where the figures are drawn; None leaves them out.
    """
    summary = summary_table()
    cost = cost_table(summary)
    table = layout.join_cost(summary, cost)
    fields: dict[str, Any] = {
        "name": "sas",
        "title": "Data-efficient contrastive learning (SAS)",
        "question": "Which unlabelled images are enough for contrastive learning? Small subsets are trained "
        "from scratch and read by a linear probe.",
        "source": {
            "paper": "Joshi & Mirzasoleiman, ICML 2023, arXiv 2302.09195",
            "code": "released code, 5e57418",
        },
        "arms": ARMS,
        "summary": summary,
        "claims": claims(),
        "cost": cost,
        "reproduction": reproduction_table(),
        "figures": figure_inputs(folder, ("accuracy_vs_fraction", "accuracy_vs_cost"), table, ARMS),
        "environment": ENVIRONMENT,
        "provenance": provenance(),
    }
    suite = SuiteInput(**{**fields, **changes})
    overview = figure_inputs(folder, ("pareto",), table, pareto.overview_arms({"sas": ARMS}))
    return ReportInput(scale="demo", suites=[suite], figures=overview)


def sample_report(folder: Path) -> str:
    """Return the HTML of the sample report; its figures are drawn into `folder`."""
    return build_report(sample_input(folder))
