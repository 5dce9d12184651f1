"""Rankings as jobs on real digits: by the script's engine, resumed where they were, of given sets too."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from digits_store import DATA, make_store, plugged, run, select

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.data.prepare import prepare
from winnow.distill.engine import ranking
from winnow.distill.engine.ranking import Contest, Options, arms_of, scores, train_arms
from winnow.distill.engine.real import PUBLISHED, RealData
from winnow.errors import UserError
from winnow.evaluate.engine import contest
from winnow.plan.catalogue import load_catalogue
from winnow.plan.specs import DistillSpec, EvaluateSpec, Judge, Taught
from winnow.rehearse.contests import trainings_of
from winnow.seeds import derive
from winnow.store import building, read_json
from winnow.train.engine.recipe import Examples, Network, Recipe
from winnow.train.engine.synthetic import SyntheticSet

ROOT = Path(__file__).parents[2]
START, SEED, BUDGET = "selection/digits-random-s1-00000000", 1, 10
PARAMS = {"steps": 12, "rates": [0.02, 0.1]}
RECIPE = {"augment": "crop", "precision": "fp32", "lr": 0.5}


JUDGE = Judge(
    trainer=plugged("train", "distilled", **RECIPE),
    model=plugged("models", "convnet", depth=2, width=8),
    batch_size=64,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with digits, and a selection of one example of each class."""
    folder = make_store(tmp_path / "store")
    labels = np.asarray(Dataset.open(folder / DATA).labels("train"))
    select(folder, START, SEED, np.array([np.flatnonzero(labels == label)[3] for label in range(10)]))
    return folder


def evaluation(
    subject: str, name: str, beside: str | None, budget: int | None, **params: Any
) -> EvaluateSpec:
    return EvaluateSpec(
        seeds=(SEED,),
        root_seed=5,
        data=DATA,
        subject=subject,
        judge=JUDGE,
        beside=beside,
        budget=budget,
        protocol=plugged("evaluate", name, **(PARAMS | params)),
        version=1,
    )


def baseline(store: Path, **params: Any) -> str:
    return run(store, evaluation(DATA, "real_baseline", None, BUDGET, **params))


def ranked(store: Path, subject: str, budget: int | None = None, **params: Any) -> dict[str, float]:
    """Rank a subject beside its baseline; returns the metrics."""
    spec = evaluation(subject, "dd_ranking", baseline(store, **params), budget, **params)
    found = json.loads((store / run(store, spec) / f"s{SEED}/metrics.json").read_text())["metrics"]
    return {name: row["value"] for name, row in found.items()}


def make(store: Path, path: Path, budget: int = BUDGET, **params: Any) -> str:
    """Make a distilled set of a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 64 * "0"
    spec = DistillSpec(
        seeds=(SEED,),
        root_seed=5,
        data=DATA,
        start=START,
        method=plugged("distill", "given", **({"path": str(path), "sha256": digest} | params)),
        variant="default",
        model=JUDGE.model,
        budget=budget,
        fraction=0.007,
        uses={},
    )
    return run(store, spec)


def by_the_engine(
    store: Path, given: SyntheticSet, real: RealData, networks: int = 1, taught: Taught | None = None
) -> pd.DataFrame:
    """Return the rows that the script's engine yields for a set."""
    model = registry.load("models", "convnet", "")
    options = Options(
        seeds=tuple(range(SEED * networks, (SEED + 1) * networks)),
        rates=(0.02, 0.1),
        augmentation=True,
        taught=taught,
    )
    network = Network(model, model.params(depth=2, width=8), 10, torch.device("cpu"), root_seed=5)
    recipe = Recipe(**RECIPE, steps=12, batch_size=64)  # type: ignore[arg-type]
    about = Contest.about(given, real, recipe, network, options)
    return pd.DataFrame(train_arms(arms_of(given.soft is not None, options), about))


def images_of(store: Path) -> tuple[RealData, SyntheticSet]:
    """Return digits as the engine reads them, and the selection's images as a set."""
    data = Dataset.open(store / DATA)
    real = RealData.of(data, "own", False, root_seed=5)
    index = np.sort(pd.read_parquet(store / START / f"s{SEED}/subset.parquet")["index"].to_numpy())
    pixels = torch.from_numpy(np.array(data.images("train")[index])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.array(data.labels("train")[index]))
    return real, SyntheticSet(real.space(pixels), labels)


def test_a_selection_is_ranked_as_the_script_would(store: Path) -> None:
    found = ranked(store, START, networks=2)
    real, given = images_of(store)
    rows = by_the_engine(store, given, real, networks=2)
    wanted = scores(rows).mean()
    for name in ("hlr", "ior", "lrs", "ars"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-12), name
    for weight in (0.0, 0.25, 1.0):
        assert found[f"lrs_weight_{weight:g}"] == pytest.approx(scores(rows, weight)["lrs"].mean(), abs=1e-12)
    arm = (rows["data"] == "random") & ~rows["augmented"]
    assert found["random_hard_plain_accuracy"] == pytest.approx(rows[arm]["test_accuracy"].mean())
    assert found["lrs_weight_0.5"] == found["lrs"] and 0 < found["lrs"] < 1


def test_an_arm_with_a_teacher_is_ranked_by_the_network_of_the_full_data(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = JUDGE.model_copy(update={"taught": Taught(cutmix=0.5, temperature=4)})
    real, given = images_of(store)
    beside = run(
        store,
        evaluation(DATA, "real_baseline", None, BUDGET, networks=2).model_copy(update={"judge": judge}),
    )
    assert {path.name for path in (store / beside / f"s{SEED}").glob("teacher*")} == {
        f"teacher_{seed}.safetensors" for seed in (2 * SEED, 2 * SEED + 1)
    }
    spec = evaluation(START, "dd_ranking", beside, None, networks=2).model_copy(update={"judge": judge})
    fit, trained = ranking.fit, list[str]()
    monkeypatch.setattr(ranking, "fit", lambda *given: trained.append(given[4]) or fit(*given))
    rows = json.loads((store / run(store, spec) / f"s{SEED}/metrics.json").read_text())["metrics"]
    assert trained and all(name.startswith("synthetic") for name in trained), "the teacher was kept"
    found = {name: row["value"] for name, row in rows.items()}
    wanted = by_the_engine(store, given, real, 2, Taught(cutmix=0.5, temperature=4))
    assert set(wanted["labels"]) == {"hard", "taught"}
    for name, value in scores(wanted).mean().items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert {"synthetic_taught_plain_accuracy", "random_taught_accuracy"} <= set(found)


def test_soft_labels_count_where_a_set_has_them(store: Path, tmp_path: Path) -> None:
    real, given = images_of(store)
    pixels, soft = real.space.pixels(given.images), torch.rand(10, 10).mul(3).softmax(1)
    soft[torch.arange(10), given.labels] += 2
    soft /= soft.sum(1, keepdim=True)
    np.savez(tmp_path / "soft.npz", images=pixels.numpy().clip(0, 1), labels=soft.numpy())
    made = make(store, tmp_path / "soft.npz")
    found = ranked(store, made)
    given = SyntheticSet.load(store / made / f"s{SEED}/synthetic.safetensors")
    assert given.soft is not None
    wanted = scores(by_the_engine(store, given, real)).mean()
    for name in ("hlr", "ior", "lrs", "ars"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-12), name
    assert {"synthetic_soft_plain_accuracy", "random_soft_plain_accuracy"} <= set(found)
    hard = ranked(store, made, soft_labels=False)
    assert not [name for name in hard if "soft" in name]
    assert hard["hlr"] == found["hlr"]


@pytest.mark.parametrize(
    "params", [{}, {"networks": 2, "full_steps": 5}, {"soft_labels": False, "plain": False}]
)
def test_a_rehearsal_counts_the_networks_that_a_ranking_trains(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    soft, images = torch.full((10, 10), 0.05) + 0.5 * torch.eye(10), images_of(store)[1].images
    np.savez(tmp_path / "soft.npz", images=images.numpy().clip(0, 1), labels=soft.numpy())
    made = make(store, tmp_path / "soft.npz")
    subject = DistillSpec.model_validate(read_json(store / made / "spec.json"))
    fit, trained = ranking.fit, list[tuple[bool, int]]()

    def counting(examples: Examples, recipe: Recipe, *others: Any) -> Any:
        trained.append((len(examples) > BUDGET, recipe.total_steps(len(examples))))
        return fit(examples, recipe, *others)

    monkeypatch.setattr(ranking, "fit", counting)

    def counted(spec: EvaluateSpec, subject: object) -> list[tuple[bool, int]]:
        arms = trainings_of(spec, subject)
        return sorted((arm.on_all, arm.steps) for arm in arms for _ in range(arm.networks))

    real = evaluation(DATA, "real_baseline", None, BUDGET, **params)
    beside = run(store, real)
    assert counted(real, None) == sorted(trained)
    for what, spec in ((START, None), (made, subject)):
        trained.clear()
        own = evaluation(what, "dd_ranking", beside, None if spec else BUDGET, **params)
        run(store, own)
        assert trained and counted(own, spec) == sorted(trained)


def test_a_killed_ranking_goes_on_where_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ranked(store, START)
    beside, trained = baseline(store), []
    fit = contest.train_arms.__globals__["fit"]

    def killing(*given: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(given[4])
        return fit(*given)

    monkeypatch.setitem(contest.train_arms.__globals__, "fit", killing)
    spec = evaluation(START, "dd_ranking", beside, None, weight=0.25)
    with pytest.raises(KeyboardInterrupt):
        run(store, spec)
    monkeypatch.setitem(
        contest.train_arms.__globals__, "fit", lambda *given: trained.append(given[4]) or fit(*given)
    )
    found = json.loads((store / run(store, spec) / f"s{SEED}/metrics.json").read_text())["metrics"]
    assert len(trained) == 3 + 2, (
        "two rates of the arm with augmentation were kept, the other arm is tuned anew"
    )
    assert found["hlr"]["value"] == whole["hlr"] and found["lrs"]["value"] == whole["lrs_weight_0.25"]
    costs = json.loads((store / "evaluate" / spec.id() / "provenance.json").read_text())["costs"]
    assert costs[str(SEED)]["cpu_s"] > 0


def test_full_data_as_its_own_set_recovers_everything_that_a_split_of_its_own_leaves(tmp_path: Path) -> None:
    """With a validation split nothing is cut from the training data: HLR is 0 to the last bit."""
    store = tmp_path / "store"
    entry = load_catalogue(ROOT / "datasets.yaml")["digits"]
    with building(store / DATA, {"spec": DATA}) as artefact:
        assert artefact is not None
        seed = derive(5, "data", 0)
        prepare(entry, {}, artefact.out, {"train": 200}, seed, ("train",), holdout=100)
    select(store, START, SEED, np.random.default_rng(0).permutation(200))
    beside = run(store, evaluation(DATA, "real_baseline", None, 200, soft_labels=False))
    spec = evaluation(START, "dd_ranking", beside, None)
    found = json.loads((store / run(store, spec) / f"s{SEED}/metrics.json").read_text())["metrics"]
    assert found["hlr"]["value"] == 0
    runs = pd.read_parquet(store / beside / f"s{SEED}/{contest.RUNS}")
    assert set(runs["examples"]) == {200}


def test_random_baselines_have_the_data_s_share_of_every_class_and_are_drawn_anew(store: Path) -> None:
    real = RealData.of(Dataset.open(store / DATA), "own", False, root_seed=5)
    other = RealData.of(Dataset.open(store / DATA), "own", False, root_seed=6)
    counts = torch.ones(10, dtype=torch.int64)
    draws = [real.random_rows(counts, 0), real.random_rows(counts, 1), other.random_rows(counts, 0)]
    assert len({tuple(rows.tolist()) for rows in draws}) == 3, "by repetition and by root seed"


def test_a_subset_with_weights_is_no_set(store: Path) -> None:
    select(store, START, SEED, np.arange(10), weight=2.0)
    with pytest.raises(UserError, match=r"subset\.parquet: sets have no weights"):
        ranked(store, START)


@pytest.mark.parametrize("form", ["npz", "pt"])
def test_given_sets_are_seen_as_the_workflow_sees_them(store: Path, tmp_path: Path, form: str) -> None:
    real, given = images_of(store)
    pixels = (real.space.pixels(given.images) * 255).round().byte()
    path = tmp_path / f"set.{form}"
    if form == "npz":
        np.savez(path, images=pixels.numpy(), labels=given.labels.numpy())
    else:
        torch.save({"data": [[pixels, given.labels], [255 - pixels, given.labels]]}, path)
    made = SyntheticSet.load(store / make(store, path) / f"s{SEED}/synthetic.safetensors")
    assert torch.allclose(made.images, given.images, atol=1e-6) and torch.equal(made.labels, given.labels)
    assert made.soft is None
    if form == "pt":
        other = make(store, path, experiment=1)
        inverse = SyntheticSet.load(store / other / f"s{SEED}/synthetic.safetensors").images
        assert torch.allclose(inverse, real.space(255 - pixels), atol=1e-6)


def test_what_the_maker_s_networks_saw_is_undone_first(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = images_of(store)
    monkeypatch.setitem(PUBLISHED, "digits", ((0.5,), (0.25,)))
    seen = (real.space.pixels(given.images) - 0.5) / 0.25
    torch.save({"images": seen, "labels": given.labels}, tmp_path / "published.pt")
    torch.save({"images": given.images, "labels": given.labels}, tmp_path / "own.pt")
    for statistics in ("published", "own"):
        made = make(store, tmp_path / f"{statistics}.pt", statistics=statistics)
        found = SyntheticSet.load(store / made / f"s{SEED}/synthetic.safetensors")
        assert torch.allclose(found.images, given.images, atol=1e-6), statistics
        assert (store / made / f"s{SEED}/preview.png").stat().st_size > 200


def test_sets_of_this_project_come_back_as_they_were(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By constants of others they would be scaled without a word; the learned step size stays."""
    _, given = images_of(store)
    monkeypatch.setitem(PUBLISHED, "digits", ((0.5,), (0.25,)))
    replace(given, step_size=0.25).save(tmp_path / "own.safetensors")
    for statistics in ("published", "own"):
        made = make(store, tmp_path / "own.safetensors", statistics=statistics)
        found = SyntheticSet.load(store / made / f"s{SEED}/synthetic.safetensors")
        assert torch.allclose(found.images, given.images, atol=1e-6) and found.step_size == 0.25
    given.save(tmp_path / "whitened.safetensors", "zca")
    with pytest.raises(UserError, match=r"made for networks that see images as `inputs: zca`"):
        make(store, tmp_path / "whitened.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "own.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut\.safetensors: cannot be read"):
        make(store, tmp_path / "cut.safetensors")


def test_each_image_of_a_packed_set_holds_several(store: Path, tmp_path: Path) -> None:
    _, given = images_of(store)
    torch.save({"images": given.images, "labels": given.labels}, tmp_path / "own.pt")
    made = make(store, tmp_path / "own.pt", statistics="own", factor=2)
    found = SyntheticSet.load(store / made / f"s{SEED}/synthetic.safetensors")
    assert found.factor == 2 and len(found.shown().labels) == 4 * len(given.labels)
    with pytest.raises(UserError, match=r"own\.pt: factor 3: images of 8 pixels"):
        make(store, tmp_path / "own.pt", statistics="own", factor=3)


def test_labels_may_lie_in_a_second_file(store: Path, tmp_path: Path) -> None:
    _, given = images_of(store)
    torch.save(given.images, tmp_path / "images.pt")
    torch.save(given.labels, tmp_path / "labels.pt")
    digest = hashlib.sha256((tmp_path / "labels.pt").read_bytes()).hexdigest()
    about = {"labels": str(tmp_path / "labels.pt"), "labels_sha256": digest}
    made = make(store, tmp_path / "images.pt", **about)
    assert torch.equal(
        SyntheticSet.load(store / made / f"s{SEED}/synthetic.safetensors").labels, given.labels
    )
    with pytest.raises(
        UserError, match=r"params\.labels: .*labels\.pt has sha256 .*params\.labels_sha256 says 00"
    ):
        make(store, tmp_path / "images.pt", **(about | {"labels_sha256": 64 * "0"}))


def test_mistakes_in_given_sets_name_file_and_key(store: Path, tmp_path: Path) -> None:
    _, given = images_of(store)
    path = tmp_path / "set.npz"
    np.savez(path, images=given.images.numpy(), labels=given.labels.numpy())
    with pytest.raises(UserError, match=r"params\.path: .*set\.npz has sha256 .*params\.sha256 says 00"):
        make(store, path, sha256=64 * "0")
    with pytest.raises(UserError, match=r"params\.path: .*no\.npz is not there"):
        make(store, tmp_path / "no.npz")
    with pytest.raises(UserError, match=r"set\.npz: holds 10 images, but the share .* is 9"):
        make(store, path, budget=9)
    np.savez(path, images=np.zeros((10, 3, 8, 8), np.uint8), labels=given.labels.numpy())
    with pytest.raises(UserError, match=r"set\.npz: images are \(3, 8, 8\)"):
        make(store, path)
    np.savez(path, images=given.images.numpy(), labels=given.labels.numpy() + 1)
    with pytest.raises(UserError, match=r"set\.npz: labels must be whole numbers from 0 to 9"):
        make(store, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"set\.npz: cannot be read"):
        make(store, path)
