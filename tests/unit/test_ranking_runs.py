"""Rankings from file to file on real digits: what is trained, on what, and how often."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.distill.engine.dd_ranking import augmentation_robust_score
from winnow.distill.engine.ranking import Arm, Contest, Options, arms_of, scores, train_arms
from winnow.distill.engine.ranking_run import open_dataset
from winnow.distill.engine.real import RealData, whiten
from winnow.errors import UserError
from winnow.plan.config import load_config
from winnow.plan.specs import Taught
from winnow.train.engine.recipe import Examples, Network, Recipe, accuracy, fit, tuned
from winnow.train.engine.space import Space
from winnow.train.engine.synthetic import SyntheticSet, unpacked

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(epochs=40, lr=0.05, augment="crop", precision="fp32")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    from winnow.data.prepare import prepare
    from winnow.plan.catalogue import load_catalogue

    folder = tmp_path_factory.mktemp("digits")
    prepare(load_catalogue(ROOT / "datasets.yaml")["digits"], {}, folder)
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def real(digits: Dataset) -> RealData:
    return RealData.of(digits, "own", zca=False)


@pytest.fixture(scope="module")
def network() -> Network:
    model = registry.load("models", "convnet", "here")
    params = model.params.model_validate({"depth": 2, "width": 16})
    return Network(model, params, 10, torch.device("cpu"))


def two_each(real: RealData) -> SyntheticSet:
    rows = real.random_rows(torch.full((10,), 2), seed=77)
    return SyntheticSet(real.train.images[rows], real.train.labels[rows])


def test_validation_is_cut_off_class_by_class_and_never_trained_on(real: RealData, digits: Dataset) -> None:
    assert len(real.train) + len(real.validation) == digits.n("train")
    shares = torch.bincount(real.validation.labels) / (
        torch.bincount(real.train.labels) + torch.bincount(real.validation.labels)
    )
    assert shares.sub(0.1).abs().max() < 0.01
    flat = {bytes(image.numpy().tobytes()) for image in real.train.images}
    assert not flat & {bytes(image.numpy().tobytes()) for image in real.validation.images}
    assert len(real.test) == digits.n("test")


def test_a_random_subset_has_the_set_s_classes_and_another_draw_for_each_seed(real: RealData) -> None:
    counts = torch.tensor([3, 0, 1, 2, 2, 2, 2, 2, 2, 5])
    draws = [real.random_rows(counts, seed) for seed in (0, 0, 1)]
    for rows in draws:
        assert torch.bincount(real.train.labels[rows], minlength=10).tolist() == counts.tolist()
        assert len(set(rows.tolist())) == len(rows)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    with pytest.raises(UserError, match="class 0 has"):
        real.random_rows(torch.full((10,), 10_000), 0)


def test_a_training_repeats_itself_and_depends_on_its_seed(real: RealData, network: Network) -> None:
    given = two_each(real)
    examples = Examples(given.images, given.labels)
    models = [fit(examples, RECIPE, network, seed, "test") for seed in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert accuracy(models[0], real.test, RECIPE, network.device) > 0.4, "chance is 0.1"


def test_steps_are_counted() -> None:
    assert RECIPE.total_steps(20) == 40
    assert RECIPE.model_copy(update={"batch_size": 8}).total_steps(20) == 3 * 40
    assert RECIPE.model_copy(update={"steps": 7}).total_steps(20) == 7


def test_soft_labels_of_one_hot_rows_are_hard_labels(real: RealData, network: Network) -> None:
    given = two_each(real)
    recipe = RECIPE.model_copy(update={"epochs": 5})
    hard = fit(Examples(given.images, given.labels), recipe, network, 0, "hard")
    one_hot = torch.nn.functional.one_hot(given.labels, 10).float()
    soft = fit(Examples(given.images, given.labels, one_hot), recipe, network, 0, "soft")
    for mine, other in zip(hard.parameters(), soft.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_the_set_of_all_real_images_recovers_everything(real: RealData, network: Network) -> None:
    """The full data as its own distilled set: HLR is 0 to the last bit."""
    given = SyntheticSet(real.train.images, real.train.labels)
    options, recipe = Options(seeds=(0,)), RECIPE.model_copy(update={"epochs": 2})
    rows = train_arms(arms_of(False, options), Contest.about(given, real, recipe, network, options))
    found = {row["data"]: row["test_accuracy"] for row in rows if row["data"] != "random"}
    assert found["full"] == found["synthetic"]


def test_small_images_in_one_count_once_and_are_trained_on_as_many(real: RealData, network: Network) -> None:
    """Random subsets are as large as what is stored, and take the steps of what is shown."""
    stored = two_each(real)
    given = SyntheticSet(stored.images, stored.labels, factor=2)
    recipe = RECIPE.model_copy(update={"epochs": 3, "batch_size": 20, "cutmix": 1.0})
    options = Options(seeds=(0,), real=False, augmentation=True)
    contest = Contest.about(given, real, recipe, network, options)
    rows = list(train_arms(arms_of(False, options), contest))
    found = {(row["data"], row["augmented"]): (row["examples"], row["steps"]) for row in rows}
    assert set(found) == {
        (data, augmented) for data in ("synthetic", "random") for augmented in (True, False)
    }
    for data, examples in (("synthetic", 80), ("random", 20)):
        for augmented in (True, False):
            assert found[data, augmented] == (examples, 3 * 4)


def test_without_augmentation_nothing_is_mixed(
    real: RealData, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def watched(examples: Examples, recipe: Recipe, *given: object) -> object:
        seen[str(given[2])] = (recipe.augment, recipe.cutmix)
        return fit(examples, recipe, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("winnow.distill.engine.ranking.fit", watched)
    recipe = RECIPE.model_copy(update={"epochs": 1, "cutmix": 1.0})
    options = Options(seeds=(0,), real=False, augmentation=True)
    contest = Contest.about(two_each(real), real, recipe, network, options)
    list(train_arms(arms_of(False, options), contest))
    plain = {value for name, value in seen.items() if "no augmentation" in name}
    assert plain == {("", 0.0)} and len(set(seen.values())) == 2


def test_arms_of_hard_and_soft_sets() -> None:
    assert list(map(str, arms_of(False, Options()))) == [
        "full, hard labels",
        "synthetic, hard labels",
        "random, hard labels",
    ]
    assert list(map(str, arms_of(True, Options(augmentation=True)))) == [
        "full, hard labels",
        "synthetic, hard labels",
        "synthetic, soft labels",
        "random, hard labels",
        "random, soft labels",
        "synthetic, soft labels, no augmentation",
        "random, soft labels, no augmentation",
    ]
    alone = list(map(str, arms_of(True, Options(real=False, augmentation=True))))
    assert "random, soft labels" not in alone, "nobody to teach them"
    assert "synthetic, hard labels, no augmentation" in alone, "as the random subsets beside it"


def test_taught_arms_stand_beside_hard_ones_for_set_and_random_images() -> None:
    found = list(map(str, arms_of(False, Options(augmentation=True, taught=Taught()))))
    assert found == [
        "full, hard labels",
        "synthetic, hard labels",
        "synthetic, taught labels",
        "random, hard labels",
        "random, taught labels",
        "synthetic, taught labels, no augmentation",
        "random, taught labels, no augmentation",
    ]


def test_a_teacher_of_unmixed_images_is_their_soft_labels(real: RealData, network: Network) -> None:
    """Without augmentation, mixing and temperature, soft labels and the teacher say the same."""
    recipe = RECIPE.model_copy(update={"epochs": 4, "augment": ""})
    options = Options(seeds=(3,), real_steps=30, taught=Taught(cutmix=0.0, temperature=1.0))
    contest = Contest.about(two_each(real), real, recipe, network, options)
    arms = [Arm("full", "hard"), Arm("random", "soft"), Arm("random", "taught")]
    _, soft, taught = train_arms(arms, contest)
    assert soft["test_accuracy"] == pytest.approx(taught["test_accuracy"], abs=2 / len(real.test))
    mixed = replace(contest, options=replace(options, taught=Taught()))
    (other,) = list(train_arms(arms[2:], mixed))
    assert other["test_accuracy"] != taught["test_accuracy"], "CutMix and the temperature make a difference"


def test_teachers_are_kept_and_asked_again(
    real: RealData, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 3})
    options = Options(seeds=(0, 1), rates=(0.02, 0.1), taught=Taught(), augmentation=True)
    contest = replace(
        Contest.about(two_each(real), real, recipe, network, options),
        teachers=lambda seed: tmp_path / f"{seed}.safetensors",
    )
    arms = arms_of(False, options)
    rows = list(train_arms(arms, contest))
    assert [(tmp_path / f"{seed}.safetensors").is_file() for seed in (0, 1, 2)] == [True, True, False]
    trained = []

    def watched(*given: object) -> object:
        trained.append(str(given[4]))
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("winnow.distill.engine.ranking.fit", watched)
    assert list(train_arms(arms, contest, rows[:5])) == rows[5:]
    only = [arm for arm in arms if arm.data == "synthetic"]
    found = list(train_arms(only, contest))
    assert found == [row for row in rows if row["data"] == "synthetic"]
    assert trained and not [name for name in trained if "full" in name or name.startswith("teacher")]
    for seed in (0, 1):
        other = network.fresh(1, 8, seed + 10, "init").state_dict()
        save_file({k: v.contiguous() for k, v in other.items()}, tmp_path / f"{seed}.safetensors")
    misled = list(train_arms(only, contest))
    assert [row for row in misled if row["labels"] == "hard"] == [
        row for row in found if row["labels"] == "hard"
    ]
    assert [row for row in misled if row["labels"] == "taught"] != [
        row for row in found if row["labels"] == "taught"
    ], "what is kept is what teaches"


def test_soft_labels_are_not_compared_with_hard_ones() -> None:
    """Where nobody teaches random subsets, gains by soft labels are no improvement over them."""
    accuracies = {
        ("synthetic", "hard", True): 0.3,
        ("synthetic", "soft", True): 0.5,
        ("random", "hard", True): 0.2,
        ("synthetic", "hard", False): 0.2,
        ("random", "hard", False): 0.15,
    }
    rows = pd.DataFrame(
        [
            {"data": data, "labels": labels, "augmented": augmented, "seed": 0,
             "test_accuracy": value, "validation_accuracy": value}
            for (data, labels, augmented), value in accuracies.items()
        ]
    )  # fmt: skip
    found = scores(rows)
    assert found["ior"].tolist() == pytest.approx([0.1])
    assert found["ars"].tolist() == pytest.approx([augmentation_robust_score(0.1, 0.05)])


def test_all_arms_take_the_same_steps_and_what_is_done_is_not_done_again(
    real: RealData, network: Network
) -> None:
    given = two_each(real)
    soft = SyntheticSet(given.images, given.labels, torch.rand(20, 10).softmax(1))
    recipe = RECIPE.model_copy(update={"epochs": 3})
    options = Options(seeds=(0, 1))
    arms, contest = arms_of(True, options), Contest.about(soft, real, recipe, network, options)
    rows = list(train_arms(arms, contest))
    assert {row["steps"] for row in rows} == {3} and len(rows) == 10
    again = list(train_arms(arms, contest, rows[:7]))
    assert again == rows[7:], "a teacher that is not there any more is trained again"


def test_a_tuned_arm_keeps_its_rate_when_it_goes_on_and_its_first_network(
    real: RealData, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, trained = RECIPE.model_copy(update={"epochs": 3}), []

    def counted(*given: object) -> object:
        trained.append(given[4])
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("winnow.distill.engine.ranking.fit", counted)
    options = Options(seeds=(4, 5), rates=(0.01, 0.1))
    arms, contest = arms_of(False, options), Contest.about(two_each(real), real, recipe, network, options)
    rows = list(train_arms(arms, contest))
    assert len(trained) == 3 * (2 + 1), "the network of the best rate is that of the first seed"
    trained.clear()
    assert list(train_arms(arms, contest, rows[:3])) == rows[3:]
    assert len(trained) == 1 + 3, "the rate of an arm that was begun is not looked for again"
    fixed = Contest.about(
        two_each(real), real, recipe.model_copy(update={"lr": rows[0]["lr"]}), network, Options(seeds=(4, 5))
    )
    assert list(train_arms(arms[:1], fixed)) == rows[:2]


def test_the_rate_is_tuned_on_validation_and_a_rate_that_diverges_loses() -> None:
    asked = []

    def score(recipe: Recipe) -> float:
        asked.append(recipe.lr)
        if recipe.lr > 1:
            raise UserError("diverged")
        return -abs(recipe.lr - 0.1) + 0.5

    assert tuned(RECIPE, (0.01, 0.1, 10.0), score, "here").lr == 0.1
    assert asked == [0.01, 0.1, 10.0]
    with pytest.raises(UserError, match="every learning rate"):
        tuned(RECIPE, (5.0, 10.0), score, "here")


def test_whitening_gives_pixels_without_correlation() -> None:
    torch.manual_seed(0)
    drawn = 128 + 40 * torch.randn(2000, 1, 4, 4) @ torch.randn(4, 4)
    pixels = drawn.clamp(0, 255).byte()
    found = torch.cov(Space.whitened(*whiten(pixels), 1)(pixels).flatten(1).T)
    values = torch.linalg.eigvalsh(torch.cov(pixels.float().div(255).flatten(1).T))
    assert torch.allclose(torch.linalg.eigvalsh(found), (values / (values + 0.1)).sort().values, atol=1e-2)
    assert float((found - torch.diag(found.diag())).abs().max()) < 0.3


def test_units_are_seen_and_a_set_that_does_not_fit_is_refused(real: RealData) -> None:
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(10)
    by_byte = real.fitting(pixels, labels, "auto", "here")
    by_share = real.fitting(pixels.float() / 255, labels, "auto", "here")
    assert torch.allclose(by_byte.images, by_share.images, atol=1e-6)
    for other in (pixels.float(), pixels.long()):
        assert torch.allclose(real.fitting(other, labels, "auto", "here").images, by_byte.images, atol=1e-6)
    learned = real.fitting(pixels.float() - 3, labels, "pixels", "here").images
    assert torch.allclose(learned, real.space((pixels.float() - 3) / 255), atol=1e-6)
    for most, beyond in ((1, 0.05), (255, 3.0)):
        drifted = pixels.float() / 255 * (most + 2 * beyond) - beyond
        found = real.fitting(drifted, labels, "auto", "here").images
        assert torch.allclose(found, real.space(drifted / most), atol=1e-6), "pixels that were not clamped"
    packed = real.fitting(pixels, labels, "auto", "here", factor=2).shown()
    assert torch.equal(packed.images, unpacked(by_byte.images, 2))
    assert torch.equal(packed.labels, labels.repeat(4))
    with pytest.raises(UserError, match="factor 3: images of 8 pixels"):
        real.fitting(pixels, labels, "auto", "here", factor=3)
    with pytest.raises(UserError, match="from 0 to 90"):
        real.fitting(pixels, 10 * labels, "auto", "here")
    assert torch.allclose(real.space.picture(by_byte.images), pixels.float() / 255, atol=1e-6)
    seen = by_byte.images
    assert torch.equal(real.fitting(seen, labels, "auto", "here").images, seen)
    with pytest.raises(UserError, match="channels, height, width"):
        real.fitting(pixels.expand(10, 3, 8, 8), labels, "auto", "here")
    with pytest.raises(UserError, match="not finite"):
        real.fitting(seen * torch.nan, labels, "auto", "here")


def test_a_dataset_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.plan.config.RESULTS", tmp_path / "results")
    config = load_config({}, "here")
    first = open_dataset("digits", config)
    changed = (first.folder / "dataset.json").stat().st_mtime_ns
    assert open_dataset("digits", config).folder == first.folder
    assert (first.folder / "dataset.json").stat().st_mtime_ns == changed
    with pytest.raises(UserError, match="unknown dataset 'digit'"):
        open_dataset("digit", config)


@pytest.fixture
def given(tmp_path: Path, real: RealData) -> Path:
    rows = real.random_rows(torch.full((10,), 1), seed=5)
    pixels = real.space.picture(real.train.images[rows])
    np.savez(tmp_path / "set.npz", images=pixels.numpy(), labels=real.train.labels[rows].numpy())
    return tmp_path / "set.npz"


def command(*words: str | Path) -> list[str]:
    quick = ("--epochs", "5", "--model-params", '{"depth": 2, "width": 8}', "--device", "cpu")
    return ["scripts/rank.py", "--dataset", "digits", *quick, *map(str, words)]


def rank(*words: str | Path) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, *command(*words)]
    return subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_with_a_teacher(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = rank("--synthetic", given, "--output", out, "--seeds", "1", "--taught", "--full-data-steps", "20")
    assert done.returncode == 0, done.stderr
    assert "synthetic, taught labels" in done.stdout and "random, taught labels" in done.stdout
    assert (out / "teacher_0.safetensors").is_file() and len(pd.read_csv(out / "runs.csv")) == 5
    refused = rank("--synthetic", given, "--output", out, "--taught", "--no-full-data")
    assert refused.returncode == 2 and "--taught: the teacher is the network of the full" in refused.stderr


def test_the_command(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = rank("--synthetic", given, "--output", out, "--seeds", "2", "--augmentation-robust")
    assert done.returncode == 0, done.stderr
    for word in ("HLR", "IOR", "LRS", "ARS", "full, hard labels", "10 examples, 5 steps"):
        assert word in done.stdout
    runs = pd.read_csv(out / "runs.csv")
    assert len(runs) == 2 * 5 and runs["test_accuracy"].between(0, 1).all()
    assert set(pd.read_csv(out / "scores.csv")["quantity"]) == {"hlr", "ior", "lrs", "ars"}
    assert (out / "preview.png").stat().st_size > 500
    assert json.loads((out / "ranking.json").read_text())["examples"] == 10

    more = rank("--synthetic", given, "--output", out, "--seeds", "2", "--augmentation-robust")
    assert more.returncode == 0 and "100%" not in more.stderr, "what is there is not trained again"
    assert "10 images, pixels (--units), hard labels" in more.stdout and f"written: {out}" in more.stdout
    added = rank("--synthetic", given, "--output", out, "--seeds", "3", "--augmentation-robust")
    assert added.returncode == 0, "more seeds go on where fewer ended"
    three = pd.read_csv(out / "runs.csv")
    assert len(three) == 3 * 5 and three[three["seed"] < 2].merge(runs).shape == runs.shape
    other = rank("--synthetic", given, "--output", out, "--epochs", "6")
    assert other.returncode == 2 and "holds another ranking" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_set_of_ours_is_ranked_as_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "synthetic.safetensors"
    soft = (9.0 * torch.eye(10)).softmax(1)
    SyntheticSet(torch.randn(10, 1, 8, 8), torch.arange(10), soft, 0.05, factor=2).save(own)
    words = ("--synthetic", own, "--learned-rate", own, "--output", tmp_path / "out", "--seeds", "1")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", command("--no-full-data", *words))
    runpy.run_path("scripts/rank.py")["main"]()
    assert "10 images, each cut into 4, what networks saw" in capsys.readouterr().out
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert dict(zip(runs["data"], runs["examples"], strict=True)) == {"synthetic": 40, "random": 10}
    assert runs["lr"].tolist() == pytest.approx([0.05] * len(runs))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--synthetic", "no.pt"), "no.pt: is not there"),
        (("--synthetic", "README.md"), "unknown form"),
        (("--recipe", "{"), "--recipe: not JSON"),
        (("--recipe", '{"lrr": 1}'), "lrr"),
        (("--model", "convnot"), "unknown model 'convnot'"),
        (("--seeds", "0"), "--seeds: 0"),
        (("--weight", "2"), "--weight: 2.0"),
        (("--full-data-steps", "0"), "--full-data-steps: 0"),
        (("--recipe", '{"augment": "colour"}'), "color_crop"),
        (("--model-params", '{"depth": 5}'), "depth 5 needs images of at least 32 pixels"),
    ],
)
def test_a_mistake_is_one_message(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", command("--output", tmp_path / "out", "--synthetic", given, *words))
    with pytest.raises(UserError, match=re.escape(message)):
        runpy.run_path("scripts/rank.py")["main"]()


def test_the_step_size_that_was_learned_is_the_rate(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(torch.tensor(0.25), tmp_path / "lr_best.pt")
    own = ("--learned-rate", tmp_path / "lr_best.pt", "--output", tmp_path / "out", "--synthetic", given)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", command(*own, "--seeds", "1", "--no-full-data"))
    runpy.run_path("scripts/rank.py")["main"]()
    assert set(pd.read_csv(tmp_path / "out" / "runs.csv")["lr"]) == {0.25}
    for other in (("--tune",), ("--recipe", '{"lr": 0.1}')):
        monkeypatch.setattr("sys.argv", command(*own, *other))
        with pytest.raises(UserError, match="another rate is asked for"):
            runpy.run_path("scripts/rank.py")["main"]()
