"""What a ranking stands beside: the full data, and class-balanced random subsets of the sets' size.

They are the same for every set of one size, so they are trained once. The random subset is another one in
each repetition and has the data's share of every class. Its soft labels are what the network that the full
data trained says of it; where an arm learns from a teacher, that network teaches random images too, and is
kept to teach the set. Learning rates are tuned on validation images, those of the full data too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.evaluate.engine.ranking_params import ContestParams
from winnow.registry import Signals, plugin

if TYPE_CHECKING:
    from winnow.evaluate.engine.view import EvaluationView


def needs(_: ContestParams) -> Signals:
    return {"data": {}, "judge": {}}


@plugin(params=ContestParams, needs=needs, source="arXiv 2505.13300, with the full data's rate tuned too")
def evaluate(params: ContestParams, view: EvaluationView) -> dict[str, tuple[float, int]]:
    """Return the test accuracy of each baseline: `full_hard_accuracy`, `random_soft_accuracy`, ..."""
    from pathlib import Path

    import torch

    from winnow.distill.engine.ranking import arms_of
    from winnow.evaluate.engine import contest
    from winnow.select.engine.quotas import quotas
    from winnow.store import write_atomic

    real = contest.real_of(view)
    sizes = torch.bincount(real.train.labels, minlength=len(real.classes))
    assert view.budget is not None
    counts = torch.from_numpy(quotas(sizes.tolist(), view.budget))
    trial = contest.trial_of(view)
    kept = trial.checkpoint.parent

    def teacher(seed: int) -> Path:
        return kept / f"{trial.checkpoint.stem}_{contest.TEACHER.format(seed=seed)}"

    about = contest.contest_of(params, view, real, counts, teachers=teacher)
    kinds = (False, True) if params.soft_labels else (False,)
    arms = dict.fromkeys(arm for is_soft in kinds for arm in arms_of(is_soft, about.options))
    rows = contest.train(view, [arm for arm in arms if arm.data != "synthetic"], about)
    for seed in about.options.seeds if about.options.taught else ():
        write_atomic(trial.out / contest.TEACHER.format(seed=seed), teacher(seed).read_bytes())
    return {name: (value, len(real.test)) for name, value in contest.accuracies(rows).items()}
