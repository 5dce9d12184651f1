"""DD-Ranking: what a set is worth beside random images and beside the full data.

    HLR = accuracy of the full data - accuracy of the set, both with hard labels           (lower is better)
    IOR = accuracy of the set - accuracy of a random subset, each with its better labels   (higher is better)
    LRS = (exp(w IOR - (1 - w) HLR) - 1/e) / (e - 1/e)

ARS is the same function of w times the improvement over random images with augmentation and 1 - w times that
without. Accuracies are fractions, of the network after its last step; 0.2689 is no gain and no loss. The
weight is arbitrary, so the scores of other weights are there too.

The released code puts percentages into the exponential (an LRS of 9371), chooses learning rate and epoch on
the test set, and does not tune the rate of the full data. `scripts/rank.py` is the same for a single file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.evaluate.engine.ranking_params import RankingParams
from winnow.registry import Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


def needs(_: RankingParams) -> Signals:
    return {"synthetic": {}, "judge": {}, "beside": {"protocol": "real_baseline"}}


@plugin(params=RankingParams, needs=needs, source="arXiv 2505.13300")
def evaluate(params: RankingParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return hlr, ior, lrs, ars, accuracies of all arms, and the scores by weight: `lrs_weight_0.25`, ...

    With several networks per repetition these are means over them.
    """
    import pandas as pd
    import torch

    from winnow.distill.engine.ranking import arms_of, scores, sweep
    from winnow.evaluate.engine import contest
    from winnow.tables import read_table

    real = contest.real_of(view)
    given = contest.set_of(view, real)
    counts = torch.bincount(given.labels, minlength=len(real.classes))
    # A set may hold several small images in one: random subsets are as large as what is stored.
    beside = contest.trial_of(view).beside
    about = contest.contest_of(
        params, view, real, counts, given.shown(), lambda seed: beside(contest.TEACHER.format(seed=seed))
    )
    arms = arms_of(given.soft is not None and params.soft_labels, about.options)
    own = contest.train(view, [arm for arm in arms if arm.data == "synthetic"], about)
    others = contest.of_arms(read_table(beside(contest.RUNS)), arms)
    rows = pd.concat([own, others], ignore_index=True)
    found = {str(name): float(value) for name, value in scores(rows, params.weight).mean().items()}
    found |= contest.accuracies(rows)
    for by in sweep(rows, params.weights).to_dict("records"):
        weight = by.pop("weight")
        found |= {f"{name}_weight_{weight:g}": float(value) for name, value in by.items()}
    return {name: (value, len(real.test)) for name, value in found.items()}
