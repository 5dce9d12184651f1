"""The suites of the repository at the demo scale, as `make demo` runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tree import Tree

pytestmark = pytest.mark.slow
SUITES = ("coresets", "pruning", "useful", "noise")


def metrics(tree: Tree, suite: str) -> pd.DataFrame:
    return pd.read_parquet(tree.store / "suites" / suite / "metrics.parquet")


@pytest.mark.parametrize("suite", SUITES)
def test_every_arm_learns_and_every_claim_is_judged(demo: Tree, suite: str) -> None:
    table = metrics(demo, suite)
    accuracy = table[table["metric"] == "test_accuracy"]
    assert accuracy.groupby(["dataset", "arm", "length", "fraction"])["seed"].nunique().eq(3).all()
    assert accuracy.groupby("arm")["value"].mean().gt(0.3).all(), "digits: chance is 0.1"
    claims = json.loads((demo.store / "suites" / suite / "claims.json").read_text())
    assert claims and {claim["verdict"] for claim in claims} <= {
        "supported",
        "not supported",
        "inconclusive",
        "not run",
    }
    pictures = list((demo.store / "suites" / suite / "figures").glob("*.png"))
    assert pictures and all(picture.stat().st_size > 10_000 for picture in pictures)


def test_noise_is_found_and_random_is_not_better_than_its_base_rate(demo: Tree) -> None:
    table = metrics(demo, "noise")
    found = table[table["metric"] == "noise_average_precision"].groupby("arm")["value"].mean()
    assert found["aum"] > 0.8 and found["small_loss"] > 0.8
    assert found["random"] < 0.3, "a fifth of the labels is wrong"
    kept = table[table["metric"] == "noise_share_kept"].groupby("arm")["value"].mean()
    assert kept["aum"] < 0.08 and 0.15 < kept["random"] < 0.25


def test_repeats_are_counted_as_examples(demo: Tree) -> None:
    table = metrics(demo, "useful").set_index("arm")
    assert (table.loc["full", "budget"] == 1437).all()
    assert (table.loc["useful", "budget"] > 1437).all()


def test_suites_share_what_is_equal(demo: Tree) -> None:
    """The proxy of all digits serves two suites, and a second run has nothing to do."""
    assert demo.planned() == set()


def test_every_suite_plans_on_a_cluster(demo: Tree, tmp_path: Path) -> None:
    """Snakemake refuses groups of which one waits for itself; on one machine it groups nothing."""
    fresh = demo.copy(tmp_path / "fresh", results=False)
    done = fresh.snakemake("--dry-run", "--profile", "profiles/slurm")
    assert done.returncode == 0, done.stdout
    assert "Group job cell-digits" in done.stdout


def test_a_supervised_training_by_hand_repeats_itself(demo: Tree, tmp_path: Path) -> None:
    folder = min((demo.store / "train").glob("digits-full-supervised-*"))
    spec = ("--spec", str(folder / "spec.json"), "--store", str(demo.store), "--threads", "1")
    done = demo.script("train", *spec, "--output", str(tmp_path / "again"))
    assert done.returncode == 0, done.stdout
    for name in ("s0/test_logits.npy", "s0/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
