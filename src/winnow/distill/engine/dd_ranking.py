"""The scores of DD-Ranking, by which distilled sets are compared independently of labels and augmentation.

Source: arXiv 2505.13300, sections on the label-robust and the augmentation-robust score. All accuracies are
fractions. The released code puts percentages into the exponential; `percent` shows what that does.
"""

from __future__ import annotations

import math

from winnow.errors import UserError

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
"""The learning rates that DD-Ranking tries."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEUTRAL = (1 - math.exp(-1)) / (math.e - math.exp(-1))
"""The score of a set that neither gains nor loses: 0.268941."""


def hard_label_recovery(real: float, synthetic: float, *, percent: bool = False) -> float:
    """Return HLR: accuracy of the full data minus that of the set, both with hard labels; lower is better."""
    return _checked(real, percent) - _checked(synthetic, percent)


def improvement_over_random(synthetic: float, random: float, *, percent: bool = False) -> float:
    """Return IOR: accuracy of the set minus that of a random subset of its size, with labels of its kind."""
    return _checked(synthetic, percent) - _checked(random, percent)


def label_robust_score(
    recovery: float, improvement: float, weight: float = 0.5, *, percent: bool = False
) -> float:
    """Return LRS of HLR and IOR: in [0, 1] for fractions; `weight` is that of the improvement."""
    _check_differences((recovery, improvement), weight, percent)
    return _squashed(weight * improvement - (1 - weight) * recovery)


def augmentation_robust_score(
    with_augmentation: float, without: float, weight: float = 0.5, *, percent: bool = False
) -> float:
    """Return ARS of the improvements over random, trained with and without augmentation."""
    _check_differences((with_augmentation, without), weight, percent)
    return _squashed(weight * with_augmentation + (1 - weight) * without)


def _squashed(value: float) -> float:
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def _checked(accuracy: float, percent: bool) -> float:
    limit = 100.0 if percent else 1.0
    if not 0 <= accuracy <= limit:
        raise UserError(f"an accuracy of {accuracy} is not in [0, {limit:g}]: accuracies are fractions here.")
    return accuracy


def _check_differences(values: tuple[float, float], weight: float, percent: bool) -> None:
    limit = 100.0 if percent else 1.0
    for value in values:
        if not -limit <= value <= limit:
            raise UserError(f"a difference of accuracies of {value} is not in [-{limit:g}, {limit:g}].")
    if not 0 <= weight <= 1:
        raise UserError(f"a weight of {weight} is not in [0, 1].")
