from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from evidence_table import rows, table
from pydantic import ValidationError
from scipy import stats

from winnow.errors import UserError
from winnow.evidence.claims import judge
from winnow.plan.claims import ClaimSpec

NOISE = [0.0, 0.01, -0.01, 0.005, -0.005]


def spec(**changes):
    base = {
        "id": "wins",
        "statement": "SAS beats random by more than 3 points",
        "source": "abstract",
        "made_at": "paper",
        "kind": "superiority",
        "metric": "test_accuracy",
        "arm": "sas",
        "baseline": "random",
        "margin": 0.03,
    }
    return ClaimSpec.model_validate({k: v for k, v in (base | changes).items() if v is not None})


def around(mean, seeds=5):
    """Return `seeds` values with exactly this mean where seeds is 5."""
    return [mean + noise for noise in NOISE[:seeds]]


def against(gain, seeds=5, **fields):
    """Return rows of 'sas' better than those of 'random' by `gain` on average."""
    return rows("sas", around(0.6 + gain, seeds), **fields) + rows("random", [0.6] * seeds, **fields)


def only(claim, *groups, scale="paper"):
    (entry,) = judge([claim], table(*groups), scale)
    return entry


def test_a_true_claim_is_supported_with_its_numbers():
    entry = only(spec(), against(0.06))
    assert entry["verdict"] == "supported"
    (cell,) = entry["cells"]
    error = np.std(NOISE, ddof=1) / np.sqrt(5)
    assert cell["effect"] == pytest.approx(0.06)
    assert cell["p"] == pytest.approx(stats.t.sf(0.03 / error, 4))
    assert cell["p_holm"] == pytest.approx(cell["p"])
    assert [cell["ci_low"], cell["ci_high"]] == pytest.approx(stats.t.interval(0.95, 4, 0.06, error))
    assert (cell["n_seeds"], cell["dataset"], cell["fraction"]) == (5, "digits", 0.2)
    for words in (
        "sas minus random is 0.06",
        "5 seeds",
        "more than 0.03",
        "Supported in 1 of 1 cells",
    ):
        assert words in entry["reason"]


def test_a_false_claim_is_not_supported():
    entry = only(spec(), against(-0.02))
    assert entry["verdict"] == "not supported"
    assert entry["cells"][0]["ci_high"] < 0.03


def test_a_gain_below_the_margin_is_not_supported_even_if_it_is_a_gain():
    entry = only(spec(), against(0.015))
    assert entry["verdict"] == "not supported"
    assert entry["cells"][0]["ci_low"] > 0


def test_an_interval_across_the_margin_is_inconclusive():
    entry = only(spec(), against(0.032))
    assert entry["verdict"] == "inconclusive"
    cell = entry["cells"][0]
    assert cell["ci_low"] < 0.03 < cell["ci_high"]


@pytest.mark.parametrize("gain", [0.3, -0.3])
def test_two_seeds_are_inconclusive_whatever_the_effect(gain):
    entry = only(spec(), against(gain, seeds=2))
    assert entry["verdict"] == "inconclusive"
    assert entry["cells"][0]["p"] is None
    assert "too few seeds (2" in entry["reason"]


def test_three_seeds_have_little_power():
    means = {3: [0.07, 0.05, 0.03], 6: [0.07, 0.05, 0.03] * 2}
    verdicts = {}
    for n, gains in means.items():
        sas = rows("sas", [0.6 + gain for gain in gains])
        verdicts[n] = only(spec(margin=0.02), sas, rows("random", [0.6] * n))["verdict"]
    assert verdicts == {3: "inconclusive", 6: "supported"}


@pytest.mark.parametrize(("n", "verdict"), [(3, "inconclusive"), (5, "inconclusive"), (6, "not supported")])
def test_equal_arms_need_six_seeds_to_refute(n, verdict):
    equal = rows("sas", [0.5] * n) + rows("random", [0.5] * n)
    entry = only(spec(), equal)
    assert entry["verdict"] == verdict
    assert "all" in entry["reason"] and "differences are equal" in entry["reason"]


def test_no_rows_is_not_run():
    for groups in (rows("random", [0.6] * 5), rows("sas", [0.6] * 5, metric="loss")):
        entry = only(spec(), groups)
        assert (entry["verdict"], entry["cells"]) == ("not run", [])
        assert "No results" in entry["reason"]
    lone = only(spec(), rows("sas", [0.6] * 5))
    assert (lone["verdict"], lone["cells"][0]["verdict"]) == ("not run", "not run")


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.06, 0.06], "supported"),
        ([0.06, 0.032], "inconclusive"),
        ([0.06, -0.02], "not supported"),
        ([0.032, -0.02], "not supported"),
    ],
)
def test_a_claim_is_as_good_as_its_cells(gains, verdict):
    groups = [against(gain, fraction=f) for gain, f in zip(gains, [0.2, 0.4], strict=True)]
    entry = only(spec(), *groups)
    assert entry["verdict"] == verdict
    assert [cell["fraction"] for cell in entry["cells"]] == [0.2, 0.4]


def test_a_cell_without_baseline_keeps_the_claim_from_support():
    entry = only(spec(), against(0.06), rows("sas", around(0.9), fraction=0.4))
    assert entry["verdict"] == "inconclusive"
    assert [cell["verdict"] for cell in entry["cells"]] == ["supported", "not run"]
    assert "Not run in 1 of 2 cells" in entry["reason"]


def test_seeds_of_one_arm_only_are_an_error_that_names_the_claim():
    groups = rows("sas", around(0.6)), rows("random", around(0.6)[:4])
    with pytest.raises(
        UserError,
        match=r"claim 'wins', sas against random, dataset=digits.*seed\(s\) 4 are in",
    ):
        only(spec(), *groups)


def test_the_family_is_every_judged_cell_of_every_claim():
    gain = 0.0425  # p is about 0.02: enough alone, too little among five
    alone = only(spec(), against(gain))
    assert alone["verdict"] == "supported" and 0.01 < alone["cells"][0]["p"] < 0.05
    claims = [
        spec(),
        *[spec(id=f"other_{i}", margin=0.042 + i / 1000) for i in range(4)],
    ]
    family = judge(claims, table(against(gain)), "paper")
    cells = [entry["cells"][0] for entry in family]
    assert cells[0]["p"] == alone["cells"][0]["p"] == min(cell["p"] for cell in cells)
    assert cells[0]["p_holm"] == pytest.approx(5 * cells[0]["p"])
    assert family[0]["verdict"] == "inconclusive"
    untested = spec(id="untested", where={"fraction": [0.9]})
    assert judge([spec(), untested], table(against(gain)), "paper")[0] == alone


def test_where_selects_the_cells_and_names_what_is_absent():
    groups = [against(-0.1, fraction=0.1), against(0.06, fraction=0.6 / 2)]
    groups += [
        against(-0.1, fraction=0.3, length="steps"),
        against(-0.1, fraction=0.3, dataset="other"),
    ]
    where = {"fraction": [0.1 + 0.2, 0.5], "length": ["epochs"], "dataset": ["digits"]}
    entry = only(spec(where=where), *groups)
    assert entry["verdict"] == "supported" and len(entry["cells"]) == 1
    assert "no results at fraction 0.5" in entry["reason"]


def non_inferior(loss, where_baseline):
    full = rows("full", [0.7] * 5, fraction=1.0)
    claim = spec(
        kind="non_inferiority",
        baseline="full",
        margin=0.02,
        where_baseline=where_baseline,
    )
    return only(claim, full, rows("sas", around(0.7 - loss), length="steps"))


def test_non_inferiority_to_full_data():
    free = {"fraction": [1.0], "length": ["epochs"]}
    assert non_inferior(0.0, free)["verdict"] == "supported"
    assert non_inferior(0.02, free)["verdict"] == "inconclusive"
    assert non_inferior(0.05, free)["verdict"] == "not supported"
    assert non_inferior(0.0, {"fraction": [1.0]})["verdict"] == "not run"  # the lengths still must match


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(0.0, "supported"), (0.02, "supported"), (-0.02, "supported"), (0.05, "inconclusive"),
     (0.09, "not supported"), (-0.09, "not supported")],
)  # fmt: skip
def test_equivalence_is_two_tests(gain, verdict):
    claim = spec(kind="equivalence", margin=0.05)
    entry = only(claim, against(gain))
    assert entry["verdict"] == verdict
    (cell,) = entry["cells"]
    error = np.std(NOISE, ddof=1) / np.sqrt(5)
    assert cell["p"] == pytest.approx(
        max(stats.t.sf((gain + 0.05) / error, 4), stats.t.sf((0.05 - gain) / error, 4))
    )
    assert cell["p_opposite"] == pytest.approx(stats.t.sf((abs(gain) - 0.05) / error, 4))
    assert "between -0.05 and 0.05" in entry["reason"]


def test_equivalence_of_too_few_seeds_is_inconclusive():
    assert only(spec(kind="equivalence"), against(0.0, seeds=2))["verdict"] == "inconclusive"


def test_a_baseline_may_be_a_number():
    claim = spec(baseline=0.6)
    entry = only(claim, rows("sas", around(0.66)))
    (cell,) = entry["cells"]
    assert entry["verdict"] == "supported" and entry["baseline"] == 0.6
    assert cell["effect"] == pytest.approx(0.06) and cell["mean_baseline"] == pytest.approx(0.6)
    assert cell["p"] == pytest.approx(stats.ttest_1samp(around(0.66), 0.63, alternative="greater").pvalue)
    entry = only(spec(kind="equivalence", baseline=0, metric="ior"), rows("sas", around(0.0), metric="ior"))
    assert entry["verdict"] == "supported"


def test_ratio_of_a_cost_column():
    claim = spec(kind="ratio", metric="total_wall_s", arm="full", baseline="sas", margin=3.0)

    def entry(**fields):
        times = [("full", [40.0, 41.0, 39.0]), ("sas", [10.0, 10.1, 10.2])]
        arms = [rows(arm, [0.5] * 3, **(fields if arm == "sas" else {})) for arm, _ in times]
        filled = [
            r | {"total_wall_s": t}
            for a, (_, ts) in zip(arms, times, strict=True)
            for r, t in zip(a, ts, strict=True)
        ]
        return only(claim, filled, [row | {"metric": "loss"} for row in filled])

    same = entry()
    assert same["verdict"] == "supported"
    assert same["cells"][0]["effect"] == pytest.approx((40 * 41 * 39 / (10 * 10.1 * 10.2)) ** (1 / 3))
    other = entry(device="cuda")
    assert other["verdict"] == "inconclusive" and "different devices" in other["reason"]


def correlated(noise, fractions, **changes):
    claim = spec(
        kind="correlation",
        baseline=None,
        margin=0.5,
        arm=["sas", "random"],
        **{"with": "mir"} | changes,
    )
    groups = []
    for i, f in enumerate(fractions):
        x = 0.3 + 0.05 * i
        groups += [rows("sas", [x - 0.1, x + 0.1], fraction=f)]
        groups += [rows("sas", [noise(i)] * 2, fraction=f, metric="mir")]
    return only(claim, *groups)


def test_correlation_takes_seed_means_as_points():
    fractions = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    rising = correlated(lambda i: i + 0.1 * (i % 2), fractions)
    assert rising["verdict"] == "supported"
    (cell,) = rising["cells"]
    expected = stats.pearsonr(range(6), [0, 1.1, 2, 3.1, 4, 5.1])
    assert cell["effect"] == pytest.approx(expected.statistic)
    assert cell["ci_low"] == pytest.approx(expected.confidence_interval().low)
    assert (cell["fraction"], cell["n_seeds"]) == (None, 2)
    assert "6 points" in cell["test"]
    assert correlated(lambda i: -i + 0.1 * (i % 2), fractions)["verdict"] == "not supported"
    assert correlated(lambda i: i, fractions[:3])["verdict"] == "inconclusive"
    assert correlated(lambda i: i, fractions, **{"with": "absent"})["verdict"] == "not run"
    ranks = correlated(lambda i: 10.0**i, fractions, coefficient="spearman")
    assert ranks["cells"][0]["effect"] == pytest.approx(1)


def test_correlation_of_metrics_that_are_not_both_measured_is_an_error():
    claim = spec(kind="correlation", baseline=None, **{"with": "mir"})
    with pytest.raises(UserError, match=r"not both measured for .*fraction=0.2, seed=2"):
        only(claim, rows("sas", [0.1, 0.2, 0.3]), rows("sas", [1.0, 2.0], metric="mir"))


def test_ledger_is_plain_json_whatever_the_order_of_rows():
    metrics = table(
        against(0.06),
        against(0.2, seeds=2, fraction=0.4),
        rows("sas", [0.5], fraction=0.6),
    )
    claims = [spec(), spec(id="never", arm="absent")]
    ledger = judge(claims, metrics, "demo")
    text = json.dumps(ledger, allow_nan=False)
    assert json.loads(text) == ledger
    assert json.dumps(judge(claims, metrics.sample(frac=1, random_state=2), "demo")) == text
    assert [entry["scale"] for entry in ledger] == ["demo", "demo"]
    assert all("made at the paper scale" in entry["reason"] for entry in ledger)


def test_one_suite_and_a_known_scale():
    with pytest.raises(UserError, match="Judge one at a time"):
        only(spec(), against(0.1), rows("sas", [0.1], suite="other"))
    with pytest.raises(UserError, match=r"unknown scale 'papr'.*demo, paper, small"):
        only(spec(), against(0.1), scale="papr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "better"},
            "'superiority', 'non_inferiority', 'equivalence', 'ratio' or 'correlation'",
        ),
        ({"made_at": "large"}, "'demo', 'small' or 'paper'"),
        ({"margin": -0.1}, "0 or more"),
        ({"margin": 3}, "3 points: 0.03"),
        ({"margin": "0.03"}, "valid number"),
        ({"margin": True}, "valid number"),
        ({"margin": float("nan")}, "finite number"),
        ({"kind": "non_inferiority", "margin": 0}, "more than 0"),
        ({"kind": "equivalence", "margin": 0}, "more than 0"),
        ({"kind": "ratio", "margin": 1, "baseline": 0.5}, "a number is for differences"),
        ({"baseline": 0.5, "where_baseline": {"fraction": [1.0]}}, "a number is for differences"),
        ({"kind": "equivalence", "baseline": None}, "baseline: missing"),
        ({"kind": "ratio", "margin": 0.0}, "1 means equal"),
        (
            {"kind": "correlation", "baseline": None, "with": "mir", "margin": 1.0},
            "between -1 and 1",
        ),
        ({"kind": "correlation", "baseline": None}, "name of the second metric"),
        ({"kind": "correlation", "with": "mir"}, "Remove baseline"),
        ({"baseline": None}, "needs the name of an arm"),
        ({"baseline": "sas"}, "is the arm itself"),
        ({"arm": ["sas", "random"]}, "one name, not a list"),
        ({"with": "mir"}, "only a correlation"),
        ({"coefficient": "spearman"}, "only a correlation"),
        ({"where": {"fraktion": [0.2]}}, "Extra inputs"),
        ({"where": {"fraction": [20]}}, "less than or equal to 1"),
        ({"where": {"length": ["epoch"]}}, "'epochs' or 'steps'"),
        ({"where": {"dataset": []}}, "at least 1 item"),
        ({"where_baseline": {"fraction": [0.9, 1.0]}}, "a list of one value"),
        ({"id": "Has Space"}, "match pattern"),
        ({"marginn": 1}, "Extra inputs"),
    ],
)
def test_mistakes_in_a_claim_name_what_is_accepted(change, message):
    with pytest.raises(ValidationError, match=message):
        spec(**change)


def test_specs_are_frozen_and_survive_json():
    claim = spec(kind="correlation", baseline=None, arm=["sas", "random"], **{"with": "mir"})
    with pytest.raises(ValidationError, match="frozen"):
        claim.margin = 0.5
    assert ClaimSpec.model_validate_json(claim.model_dump_json(by_alias=True)) == claim


def test_claims_import_no_numerical_library():
    code = "import sys, winnow.plan.claims; print({'numpy', 'pandas', 'scipy', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
