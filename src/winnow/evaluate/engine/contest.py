"""Rankings as evaluations: the contest of `winnow.distill.engine.ranking` for one repetition of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from winnow import registry
from winnow.distill.engine.ranking import Arm, Contest, Options, train_arms
from winnow.distill.engine.real import RealData
from winnow.errors import UserError
from winnow.evaluate.engine.ranking_params import ContestParams
from winnow.evaluate.engine.view import EvaluationView, Trial
from winnow.store import Cost, clocked, read_json, write_json
from winnow.tables import read_table, write_table
from winnow.train.engine.device import pick_device
from winnow.train.engine.options import RecipeParams
from winnow.train.engine.recipe import Network, Recipe
from winnow.train.engine.synthetic import SyntheticSet

TEACHER = "teacher_{seed}.safetensors"
"""A network that learned the full data, where others learn from it."""

RUNS = "runs.parquet"
"""One row per network that was trained for the scores, as `train_arms` describes it."""


def real_of(view: EvaluationView) -> RealData:
    """Return the data as the networks of the workflow see them."""
    return RealData.of(view.data, "own", zca=False, root_seed=trial_of(view).root_seed)


def trial_of(view: EvaluationView) -> Trial:
    assert view.trial is not None, "the protocol needs `judge`"
    return view.trial


def options_of(params: ContestParams, trial: Trial) -> Options:
    """Return the options of one repetition, whose networks no other one has."""
    own = range(trial.seed * params.networks, (trial.seed + 1) * params.networks)
    return Options(
        tuple(own), params.rates, params.plain, real_steps=params.full_steps, taught=trial.judge.taught
    )


def contest_of(
    params: ContestParams,
    view: EvaluationView,
    real: RealData,
    counts: Tensor,
    given: SyntheticSet | None = None,
    teachers: Callable[[int], Path] | None = None,
) -> Contest:
    """Return what arms are trained with; counts: (classes,), images of each class in a random subset.

    teachers: where networks are kept that others learn from.
    """
    trial = trial_of(view)
    model = registry.load("models", trial.judge.model.name, "spec: judge.model.name")
    shared = {name: trial.judge.trainer.params[name] for name in RecipeParams.model_fields}
    return Contest(
        real=real,
        recipe=Recipe(**shared, steps=params.steps, batch_size=trial.judge.batch_size),
        network=Network(
            model,
            model.params(**trial.judge.model.params),
            len(real.classes),
            pick_device(trial.device),
            trial.root_seed,
        ),
        options=options_of(params, trial),
        counts=counts,
        given=given,
        teachers=teachers,
    )


def train(view: EvaluationView, arms: Sequence[Arm], contest: Contest) -> pd.DataFrame:
    """Return a row per training, written as `RUNS` too; what a killed job had finished is not done again."""
    trial = trial_of(view)
    kept = read_json(trial.checkpoint) if trial.checkpoint.is_file() else {"rows": [], "cost": {}}
    rows, spent = kept["rows"], Cost(**kept["cost"])
    trial.cost.wall_s += spent.wall_s
    trial.cost.cpu_s += spent.cpu_s
    further = train_arms(arms, contest, tuple(rows))
    while True:
        with clocked(spent):
            row = next(further, None)
        if row is None:
            break
        rows.append(row)
        write_json(trial.checkpoint, {"rows": rows, "cost": vars(spent)})
    found = pd.DataFrame(rows)
    write_table(trial.out / RUNS, found)
    return found


def of_arms(rows: pd.DataFrame, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return the rows of some arms."""
    keys = zip(rows["data"], rows["labels"], rows["augmented"], strict=True)
    return rows[[Arm(data, labels, bool(augmented)) in arms for data, labels, augmented in keys]]


def accuracies(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean test accuracy of each arm, under names such as `random_hard_plain_accuracy`."""
    found = {}
    for (data, labels, augmented), own in rows.groupby(["data", "labels", "augmented"]):
        plain = "" if augmented else "_plain"
        found[f"{data}_{labels}{plain}_accuracy"] = float(own["test_accuracy"].mean())
    return found


def set_of(view: EvaluationView, real: RealData) -> SyntheticSet:
    """Return the synthetic set that is looked at, or the real images of a selection as one."""
    if trial_of(view).is_made:
        return SyntheticSet.load(view.read("synthetic.safetensors"))
    table = read_table(view.read("subset.parquet"))[: view.budget]
    if read_json(view.read("facts.json"))["rounds"] != 1 or not (table["weight"] == 1).all():
        raise UserError(
            f"{view.read('subset.parquet')}: sets have no weights and no rounds; leave its arm out of a suite"
            " that ranks sets, or choose a method without them."
        )
    index = np.sort(table["index"].to_numpy())
    pixels = torch.from_numpy(np.array(view.data.images("train")[index])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.array(view.data.labels("train")[index]))
    return SyntheticSet(real.space(pixels.contiguous()), labels)
