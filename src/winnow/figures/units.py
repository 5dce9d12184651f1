"""How numbers are shown: names, units and text for people. Tables and CSV files keep shares and seconds."""

from __future__ import annotations

import math

import pandas as pd

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
LENGTHS = {"epochs": "equal epochs", "steps": "equal steps"}


def is_share(metric: str) -> bool:
    """Return whether a metric is a share in [0, 1] that is displayed as a percentage."""
    return any(word in metric for word in ("accuracy", "precision", "recall", "share"))


def display_scale(metric: str) -> float:
    """Return the factor from a stored value to the displayed one (100 for shares)."""
    return 100.0 if is_share(metric) else 1.0


def metric_label(metric: str) -> str:
    """Return a metric's name for an axis or a column head, with its unit."""
    name = metric.replace("_", " ")
    return f"{name} (%)" if is_share(metric) else name


def difference_label(metric: str, baseline: str) -> str:
    """Return the name of a difference to a baseline, with its unit: `test accuracy minus random (points)`."""
    return f"{metric.replace('_', ' ')} minus {baseline}" + (" (points)" if is_share(metric) else "")


def length_label(length: str) -> str:
    """Return the name of a training length; a name that is not known is shown as it is."""
    return LENGTHS.get(length, length)


def is_missing(value: object) -> bool:
    """Return whether a table's value stands for "not measured" (None or NaN)."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def number(value: object, digits: int = 3) -> str:
    """Show a number with `digits` significant digits, without exponent where it is of everyday size."""
    if is_missing(value):
        return MISSING
    amount = float(str(value))
    if not math.isfinite(amount):
        return str(amount)
    whole = amount == int(amount) or abs(amount) >= 10**digits
    return (f"{amount:.0f}" if whole else f"{amount:.{digits}g}").replace("-", MINUS)


def percent(share: object) -> str:
    """Show a share in [0, 1] as a percentage with up to two decimals: 0.2 is `20 %`."""
    return MISSING if is_missing(share) else f"{round(100 * float(str(share)), 2):g} %"


def measure(value: object, metric: str) -> str:
    """Show one value of a metric in its display unit, without the unit: 0.6123 of an accuracy is `61.2`."""
    if is_missing(value):
        return MISSING
    if is_share(metric):
        return f"{100 * float(str(value)):.1f}".replace("-", MINUS)
    return number(value)


def interval(mean: object, low: object, high: object, metric: str) -> str:
    """Show a mean with its interval, `61.2 [59.8, 62.6]`; without an interval (one seed) the mean alone."""
    if is_missing(low) or is_missing(high):
        return measure(mean, metric)
    return f"{measure(mean, metric)} [{measure(low, metric)}, {measure(high, metric)}]"


def duration(seconds: object) -> str:
    """Show a time in the unit that suits it: `0.42 s`, `34.0 s`, `12.5 min`, `3.40 h`, `2.10 d`."""
    if is_missing(seconds):
        return MISSING
    time = float(str(seconds))
    units = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172800.0), ("d", 86400.0, math.inf))
    unit, length = next((unit, length) for unit, length, limit in units if time < limit)
    amount = time / length
    return f"{amount:.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"


def size(count: object) -> str:
    """Show a number of bytes with a decimal unit: 12300000 is `12.3 MB`."""
    if is_missing(count):
        return MISSING
    left = float(str(count))
    for unit in ("B", "kB", "MB", "GB"):
        if left < 1000:
            return f"{number(left)} {unit}"
        left /= 1000
    return f"{number(left)} TB"
