"""Every mistake of a user ends in one message that names file, key and value, and what is accepted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plan_inputs import CONFIG, DATASETS, GONE, ROOT, SUITE, change, copy_inputs

from winnow import registry
from winnow.errors import UserError
from winnow.plan.plan import load_plan

FOREIGN = ("Traceback", "pydantic", "Value error", "<class", "object at 0x")

Mistake = tuple[str, object, str]
"""The path of a key, the value it is given, and the parts of the message in their order."""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WINNOW_MIRROR", "WINNOW_SETTINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that users write, in a folder of its own."""
    copy_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message(tree: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_plan(root=tree)
    return str(caught.value)


def check(text: str, file: str, expected: str) -> None:
    """The message is one line that names the file and has every part of `expected`, in this order."""
    pattern = ".*".join(re.escape(part) for part in [file, *expected.split(" … ")])
    assert re.search(pattern, text), text
    assert "\n" not in text
    assert not [word for word in FOREIGN if word in text], text


DEMO, DEFAULTS, DIGITS = "scales/demo/defaults", "scales.demo.defaults", "scales.demo.digits"
SUITES = "a list of distinct names of files in suites/"
SEEDS = "a count of at least 1, a list of distinct repetition numbers from 0, or null"
CLAIM = {
    "id": "again",
    "statement": "A beats B.",
    "source": "abstract",
    "made_at": "paper",
    "kind": "superiority",
    "metric": "test_accuracy",
    "arm": "sas_paper",
    "baseline": "random",
    "margin": 0.0,
}

CONFIG_MISTAKES: list[Mistake] = [
    ("sedes", 3, "unknown key 'sedes' … Did you mean 'seeds'? … root_seed, scale, seeds, store"),
    ("scale", "tiny", "scale: unknown value 'tiny' … demo, paper, small"),
    ("scale", None, "scale: unknown value 'None' … demo, paper, small"),
    ("suites", ["nope"], "suites: unknown suite 'nope' … Accepted: sas"),
    ("suites", "sas", f"suites: 'sas' … {SUITES}"),
    ("suites", [], f"suites: [] … {SUITES}"),
    ("suites", ["sas", 5], f"suites: ['sas', 5] … {SUITES}"),
    ("suites", ["sas", "sas"], f"suites: ['sas', 'sas'] … {SUITES}"),
    ("seeds", "three", f"seeds: 'three' … {SEEDS}"),
    ("seeds", 0, f"seeds: 0  … {SEEDS}"),
    ("seeds", 1.5, f"seeds: 1.5 … {SEEDS}"),
    ("seeds", True, f"seeds: True … {SEEDS}"),
    ("seeds", [], f"seeds: [] … {SEEDS}"),
    ("seeds", [0, 1, 1], f"seeds: [0, 1, 1] … {SEEDS}"),
    ("seeds", [0, -1], f"seeds: [0, -1] … {SEEDS}"),
    ("seeds", [[0], 1], f"seeds: [[0], 1] … {SEEDS}"),
    ("root_seed", -1, "root_seed: -1 … greater than or equal to 0"),
    ("root_seed", "zero", "root_seed: 'zero' … integer"),
    ("mirror", 5, "mirror: 5 … string"),
    ("mirror", "no/such/folder", "mirror: 'no/such/folder' is not a folder … give an existing one or null"),
    ("store", 5, "store: 5 … string"),
    ("store", "", "store: '' … at least 1 character"),
    ("device", "tpu", "device: 'tpu' … auto, cpu, cuda or cuda:N"),
    ("device", "cuda:first", "device: 'cuda:first' … auto, cpu, cuda or cuda:N"),
]

DATASET_MISTAKES: list[Mistake] = [
    ("digits/licens", "MIT", "digits: unknown key 'licens' … Did you mean 'licence'?"),
    ("digits/licence", GONE, "digits.licence … missing"),
    ("digits/reader", "zip", "digits.reader: unknown reader 'zip' … bundled, clip_benchmark, csv"),
    ("digits/kind", "video", "digits.kind: unknown value 'video' … images, pairs, text"),
    ("digits/splits/train", "many", "digits.splits.train: 'many' … integer"),
    ("digits/splits/dev", 5, "digits.splits.dev … 'dev' … test, train, unlabelled, validation"),
    ("digits/splits/train", GONE, "digits … `splits` lacks 'train' … it gives test"),
    ("digits/shape", [8, 8], "digits.shape[2] … missing"),
    ("digits/shape", [8, 9, 1], "digits.shape: 8 x 9 pixels … square"),
    ("digits/n_classes", 9, "digits … `n_classes` is 9 but `classes` names 10"),
    ("digits", 5, "digits: expected a mapping … found 5"),
    ("digits/options/sauce", "x", "digits.options: unknown key 'sauce' … Did you mean 'source'?"),
    ("stl10/files/0/bytes", -1, "stl10.files[0].bytes: -1 … greater than 0"),
    ("stl10/files/0/sha256", "abc", "stl10.files[0].sha256: 'abc' … pattern"),
    ("stl10/files/0/name", "other.gz", "stl10.options: unknown file 'stl10_binary.tar.gz' … other.gz"),
    ("cifar10_jpg/files/1/note", GONE, "cifar10_jpg.files[1] … 'labels.npz' has no `urls` … `note`"),
]

SUITE_MISTAKES: list[Mistake] = [
    # The suite itself.
    ("titel", "x", "unknown key 'titel' … Did you mean 'title'?"),
    ("question", GONE, "question … missing"),
    ("name", "other", "name: 'other' differs from the file's name … Accepted: sas"),
    ("source/year", 2023, "source: unknown key 'year' … code, paper"),
    # Arms.
    ("arms", {}, "arms: {} … at least 1 item"),
    ("arms/random/vairant", "quota", "arms.random: unknown key 'vairant' … Did you mean 'variant'?"),
    ("arms/random/label", GONE, "arms.random.label … missing"),
    ("arms/random/label", "full data", "arms: label 'full data' is used twice"),
    ("arms/random/role", "baseline", "arms.random.role: unknown value 'baseline' … control, method, oracle"),
    (
        "arms/random/method",
        "rondom",
        "arms.random.method: unknown method 'rondom' … 'random' … full, glister",
    ),
    ("arms/random/variant", "quotas", "arms.random.variant … 'quotas' … plain, quota, stratified"),
    ("arms/random/params", {"quota": 1}, "arms.random.params: unknown key 'quota' … Accepted: quotas"),
    ("arms/random/params", {"quotas": "x"}, "arms.random.params.quotas … 'x' … labels, latent_classes, none"),
    ("arms/random/params", [1], "arms.random.params: [1] … dictionary"),
    ("arms/sas_paper/params", {"augment_views": -1}, "arms.sas_paper.params.augment_views: -1 … equal to 0"),
    ("arms/sas_paper/params", {"threshold": float("inf")}, "arms.sas_paper.params.threshold: inf … finite"),
    (
        "arms/sas_labels/signals",
        {"classes": {}},
        "arms.sas_labels.signals: unknown signal 'classes' … latent_",
    ),
    (
        "arms/sas_labels/signals",
        {"latent_classes": {"source": "clip"}},
        "arms.sas_labels.signals.latent_classes.source … 'clip' … few_labels, kmeans, labels",
    ),
    ("arms/random/fractions", 0.2, "arms.random.fractions: 0.2 … list"),
    ("arms/random/fractions", [0.25], "arms.random.fractions: unknown fraction '0.25' … 0.2, 0.4, 0.6, 0.8"),
    ("arms/random/fractions", [0.2, 0.2], "arms.random.fractions … '0.2' is listed twice"),
    ("arms/random/lengths", ["hours"], "arms.random.lengths[0]: unknown value 'hours' … epochs, steps"),
    ("arms/full/role", "control", "arms: exactly one needs `role: reference` … found: none"),
    ("arms/sas_paper", {"label": "x", "role": "reference", "method": "full"}, "found: full, sas_paper"),
    ("arms/full/method", "sas", "arms.full … method: 'sas' for `role: reference` … Accepted: full"),
    ("arms/full/fractions", [0.5], "arms.full … fractions … trained on all examples … remove"),
    # Scales.
    ("scales/tiny", {"datasets": {"digits": {}}}, "scales: unknown scale 'tiny' … demo, paper, small"),
    ("scales/demo", GONE, "scales: unknown scale 'demo' … Accepted: paper, small"),
    ("scales/demo", 5, "scales.demo: 5 … datasets and defaults"),
    ("scales/demo/default", {}, "scales.demo: unknown key 'default' … datasets, defaults"),
    ("scales/demo/defaults", 5, "scales.demo.defaults: 5 … mapping"),
    ("scales/demo/datasets", GONE, "scales.demo.datasets: None … names of datasets"),
    (
        "scales/demo/datasets/mnist",
        {},
        "scales.demo.datasets: unknown dataset 'mnist' … fashion_mnist … stl10",
    ),
    (f"{DEMO}/seed", 3, f"{DEFAULTS}: unknown key 'seed' … Did you mean 'seeds'?"),
    (f"{DEMO}/seeds", "three", f"{DEFAULTS}.seeds: 'three' … integer"),
    (f"{DEMO}/seeds", 0, f"{DEFAULTS}.seeds: 0 … greater than or equal to 1"),
    (f"{DEMO}/seeds", True, f"{DEFAULTS}.seeds: True … integer"),
    (f"{DEMO}/seeds_per_job", 0, f"{DEFAULTS}.seeds_per_job: 0 … greater than or equal to 1"),
    (f"{DEMO}/fractions", [0.2], f"{DEFAULTS}.fractions: [0.2] … dictionary"),
    (f"{DEMO}/fractions/epochs", 0.2, f"{DEFAULTS}.fractions.epochs: 0.2 … list"),
    (f"{DEMO}/fractions/hours", [0.2], f"{DEFAULTS}.fractions.hours … 'hours' … epochs, steps"),
    (f"{DEMO}/fractions/epochs", [0], f"{DEFAULTS}.fractions … epochs: 0.0 … above 0, and at most 1"),
    (f"{DEMO}/fractions/epochs", [1], f"{DIGITS}: arm 'random_quota' has no share … arm_fractions"),
    (f"{DEMO}/fractions/epochs", [1.5], f"{DEFAULTS}.fractions … epochs: 1.5 … above 0, and at most 1"),
    (f"{DEMO}/fractions/steps", [-0.2], f"{DEFAULTS}.fractions … steps: -0.2 … above 0, and at most 1"),
    (f"{DEMO}/fractions/epochs", [0.2, 0.4, 0.2], f"{DEFAULTS}.fractions.epochs … '0.2' is listed twice"),
    (
        f"{DEMO}/fractions/epochs",
        [0.0001, 0.2, 0.4],
        f"{DIGITS}.fractions.epochs … impossible budget … 0.0001 of 1437 … at least 0.0007",
    ),
    (f"{DEMO}/limits", {"train": 2000}, f"{DIGITS}.limits.train: 2000 … digits has 1437 … 1 to 1437"),
    (f"{DEMO}/limits", {"train": 0}, f"{DEFAULTS}.limits.train: 0 … greater than or equal to 1"),
    (f"{DEMO}/limits", {"test": 5}, f"{DEFAULTS}.limits.test … 'test' … Accepted: train"),
    (f"{DEMO}/pool", ["unlabelled"], f"{DIGITS}.pool: unknown split 'unlabelled' … test, train"),
    (f"{DEMO}/pool", ["test"], f"{DEFAULTS}.pool[0]: unknown value 'test' … train, unlabelled"),
    (f"{DEMO}/pool", ["train", "train"], f"{DEFAULTS}.pool … 'train' is listed twice"),
    (f"{DEMO}/arms", ["full", "nope"], f"{DIGITS}.arms: unknown arm 'nope' … random_quota"),
    (f"{DEMO}/arms", ["full", "random", "full"], f"{DEFAULTS}.arms … 'full' is listed twice"),
    (f"{DEMO}/arms", ["random"], f"{DIGITS}.arms: lacks the reference 'full' … add it"),
    (f"{DEMO}/arms", [], f"{DEFAULTS}.arms: [] … at least 1 item"),
    # Training, signals and evaluation.
    (f"{DEMO}/training/epochs", "many", f"{DEFAULTS}.training.epochs: 'many' … integer"),
    (f"{DEMO}/training/batch_size", 1, f"{DEFAULTS}.training.batch_size: 1 … greater than or equal to 2"),
    (f"{DEMO}/training/trainer/name", "simclear", f"{DIGITS}.training.trainer.name … 'simclear' … simclr"),
    (f"{DEMO}/training/trainer/params/lr", -1, f"{DIGITS}.training.trainer.params.lr: -1 … greater than 0"),
    (f"{DEMO}/training/trainer/params/lr", "1,0", f"{DIGITS}.training.trainer.params.lr: '1,0' … number"),
    (f"{DEMO}/training/trainer/params/temperature", 0, ".training.trainer.params.temperature: 0 … than 0"),
    (f"{DEMO}/training/trainer/params/lr_rate", 1, ".training.trainer.params: unknown key 'lr_rate' … lr"),
    (f"{DEMO}/training/trainer/params/augment/flop", 1, ".params.augment: unknown key 'flop' … 'flip'"),
    (
        f"{DEMO}/training/model/name",
        "inception",
        f"{DIGITS}.training.model.name: unknown model 'inception' … resnet",
    ),
    (
        f"{DEMO}/proxy/model/name",
        "inception",
        f"{DIGITS}.proxy.model.name: unknown model 'inception' … resnet",
    ),
    (f"{DEMO}/proxy/trainer/params/lr", 0, f"{DIGITS}.proxy.trainer.params.lr: 0 … greater than 0"),
    (f"{DEMO}/training/model/params/depth", 9, f"{DIGITS}.training.model.params.depth: 9 … equal to 5"),
    (f"{DEMO}/evaluation/name", "knn", f"{DIGITS}.evaluation.name: unknown protocol 'knn' … linear_probe"),
    (f"{DEMO}/evaluation/params", {"validation": 0.7}, f"{DIGITS}.evaluation.params.validation: 0.7 … 0.5"),
    (f"{DEMO}/signals/embedding", {}, f"{DIGITS}.signals: unknown signal 'embedding' … embeddings"),
    (f"{DEMO}/signals/latent_classes/k", 0, f"{DIGITS}.signals.latent_classes.k: 0 … equal to 1"),
    (f"{DEMO}/signals/latent_classes/kk", 3, f"{DIGITS}.signals.latent_classes: unknown key 'kk' … k,"),
    # Figures, claims, published numbers.
    ("figures/0/figure", "pie", "figures[0]: unknown figure 'pie' … accuracy_vs_cost"),
    ("figures/1/figure", "accuracy_vs_fraction", "figures: name 'accuracy_vs_fraction' is used twice"),
    ("figures/0/options", {"metrics": "x"}, "figures[0].options … 'metrics' … Did you mean 'metric'?"),
    ("figures/0/options", {"only": ["full", "sass"]}, "figures[0].options: unknown arm 'sass' … sas_paper"),
    ("figures/0/name", "a/b", "figures[0].name: 'a/b' … pattern"),
    ("claims/0/marign", 0, "claims[0]: unknown key 'marign' … Did you mean 'margin'?"),
    ("claims/7", CLAIM | {"id": "beats_random"}, "claims: id 'beats_random' is used twice"),
    ("claims/7", CLAIM | {"arm": "sass"}, "claims.again: unknown arm 'sass' … sas_paper"),
    ("claims/7", CLAIM | {"baseline": "rand"}, "claims.again: unknown arm 'rand' … Did you mean 'random'?"),
    ("claims/7", CLAIM | {"kind": "better"}, "claims[7].kind: unknown value 'better' … superiority"),
    ("claims/7", CLAIM | {"made_at": "big"}, "claims[7].made_at: unknown value 'big' … demo, paper, small"),
    ("claims/7", CLAIM | {"margin": 3}, "claims[7]: margin: 3 … a fraction below 1"),
    ("claims/7", CLAIM | {"margin": "big"}, "claims[7].margin: 'big' … number"),
    (
        "claims/7",
        CLAIM | {"where": {"datset": ["digits"]}},
        "claims[7].where: unknown key 'datset' … dataset",
    ),
    ("claims/7", CLAIM | {"where": {"dataset": ["mnist"]}}, "claims.again.where.dataset … 'mnist' … stl10"),
    ("claims/7", CLAIM | {"where": {"fraction": [0.3]}}, "claims.again.where.fraction … '0.3' … 0.2, 0.4"),
    ("claims/7", CLAIM | {"where": {"fraction": 0.2}}, "claims[7].where.fraction: 0.2 … tuple"),
    ("reproduction/0/arm", "everything", "reproduction[0].arm: unknown arm 'everything' … full"),
    ("reproduction/0/dataset", "imagenet", "reproduction[0].dataset … 'imagenet' … cifar100"),
    ("reproduction/0/paper_value", 67, "reproduction[0]: paper_value: 67 … a fraction from 0 to 1"),
    ("reproduction/0/mark", "hearsay", "reproduction[0].mark: unknown value 'hearsay' … second-hand"),
]


@pytest.mark.parametrize(("keys", "value", "expected"), CONFIG_MISTAKES)
def test_mistakes_in_the_configuration(tree: Path, keys: str, value: object, expected: str) -> None:
    change(tree / CONFIG, keys, value)
    check(message(tree), CONFIG, expected)


@pytest.mark.parametrize(("keys", "value", "expected"), DATASET_MISTAKES)
def test_mistakes_in_the_catalogue(tree: Path, keys: str, value: object, expected: str) -> None:
    change(tree / DATASETS, keys, value)
    check(message(tree), DATASETS, expected)


@pytest.mark.parametrize(("keys", "value", "expected"), SUITE_MISTAKES)
def test_mistakes_in_a_suite(tree: Path, keys: str, value: object, expected: str) -> None:
    change(tree / SUITE, keys, value)
    check(message(tree), SUITE, expected)


def test_a_mistake_of_several_grids_is_told_once_where_it_is_written(tree: Path) -> None:
    change(tree / SUITE, "scales/demo/datasets", {"digits": {}, "digits_noisy": {}})
    change(tree / SUITE, f"{DEMO}/training/epochs", "many")
    check(message(tree), SUITE, f"{DEFAULTS}.training.epochs: 'many'")
    change(tree / SUITE, f"{DEMO}/training/epochs", 2)
    change(tree / SUITE, "scales/demo/datasets/digits_noisy", {"training": {"epochs": "more"}})
    check(message(tree), SUITE, "scales.demo.datasets.digits_noisy.training.epochs: 'more'")


def test_the_tables_are_about_valid_files(tree: Path) -> None:
    for name, keys in ((CONFIG, "seeds"), (DATASETS, "digits/note"), (SUITE, "reproduction/0/obstacle")):
        change(tree / name, keys, None if name == CONFIG else "a note")
    assert load_plan(root=tree).graph.nodes


TEXT_MISTAKES = [
    (CONFIG, "scale: demo\n", "scale: demo\nscale: small\n", "key 'scale' is repeated … line 6 … keep one"),
    (CONFIG, "suites: [sas]", "suites: [sas", "line … not valid YAML"),
    (CONFIG, "seeds: null", "seeds:\tnull\n\tx: 1", "line … not valid YAML"),
    (CONFIG, "seeds: null", "1: 2", "1 is not accepted … strings"),
    (DATASETS, "\nstl10:\n", "\ncifar100:\n", "key 'cifar100' is repeated"),
    (SUITE, "  random_quota:\n", "  random:\n", "key 'random' is repeated"),
    (
        SUITE,
        "name: sas\n",
        "name: sas\nname: sas\n",
        "line 2 … key 'name' is repeated (first given in line 1)",
    ),
    (SUITE, "training: *digits\n", "training: *digit\n", "line … not valid YAML … 'digit'"),
    (SUITE, "name: sas\n", "name: sas\n1: x\n", "1 is not accepted … strings"),
    (SUITE, "      digits: {}\n", "      digits: {}\n      7: {}\n", "7 is not accepted … string"),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), TEXT_MISTAKES)
def test_mistakes_in_the_text(tree: Path, file: str, old: str, new: str, expected: str) -> None:
    text = (tree / file).read_text()
    assert text.count(old) == 1
    (tree / file).write_text(text.replace(old, new))
    check(message(tree), file, expected)


@pytest.mark.parametrize("file", [CONFIG, DATASETS, SUITE])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found nothing"),
        (b"- sas\n", "expected a mapping … found a list"),
        (b"name: caf\xe9\n", "is not UTF-8 text (byte 9)"),
    ],
)
def test_files_that_are_no_mapping(tree: Path, file: str, content: bytes, expected: str) -> None:
    (tree / file).write_bytes(content)
    check(message(tree), file, expected)


@pytest.mark.parametrize("file", [CONFIG, DATASETS])
def test_a_file_is_missing(tree: Path, file: str) -> None:
    (tree / file).unlink()
    check(message(tree), file, "cannot be read (No such file or directory)")


def test_the_suite_file_is_missing(tree: Path) -> None:
    (tree / SUITE).rename(tree / "suites" / "sass.yaml")
    check(message(tree), CONFIG, "suites: unknown suite 'sas'. Did you mean 'sass'? Accepted: sass")


def test_a_file_that_only_a_mirror_has(tree: Path) -> None:
    change(tree / CONFIG, "scale", "small")
    remedy = "Set `mirror` in config.yaml or the variable WINNOW_MIRROR to a folder with cifar10_jpg/"
    check(message(tree), DATASETS, f"cifar10_jpg.files: cifar10_jpg.tar.xz … no mirror is set … {remedy}")
    (tree / "mirror").mkdir()
    change(tree / CONFIG, "mirror", "mirror")
    absent = "mirror/cifar10_jpg/cifar10_jpg.tar.xz: missing from the mirror"
    check(message(tree), DATASETS, f"cifar10_jpg.files: cifar10_jpg.tar.xz … {absent} … {remedy}")


def test_the_mirror_variable_is_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_MIRROR", str(tree / CONFIG))
    check(message(tree), "WINNOW_MIRROR", f"'{tree / CONFIG}' is not a folder … give an existing one")


def test_a_method_file_without_its_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "modules", lambda room: ["engine"])
    with pytest.raises(UserError) as caught:
        registry.load("select", "engine", "suites/sas.yaml: arms.sas.method")
    check(str(caught.value), "winnow/select/engine.py", "no function … @plugin … add it")


# -- the same on the command line ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow; a test that edits a file writes it back."""
    root = tmp_path_factory.mktemp("clone")
    copy_inputs(root)
    shutil.copy(ROOT / "Snakefile", root)
    for name in ("rules", "src", "scripts", "envs", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WINNOW_", "SNAKEMAKE_"))}
    return subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env=environment | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def plan_fails(root: Path, *words: str) -> str:
    """Return the one message with which `snakemake -n` ends."""
    done = run(root, "-m", "snakemake", "--dry-run", "--cores", "1", *words)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done.stderr
    return lines[-1]


@pytest.mark.parametrize(
    ("words", "file", "expected"),
    [
        (["--config", "scale=tiny"], CONFIG, "scale: unknown value 'tiny'. Accepted: demo, paper, small."),
        (["--config", "suites=sas"], CONFIG, f"suites: 'sas' is not accepted. Accepted: {SUITES}"),
        (["--config", "seed=3"], CONFIG, "unknown key 'seed'. Did you mean 'seeds'?"),
        (["results/demo/train/nope"], "train/nope", "no such artefact in this plan"),
    ],
)
def test_snakemake_ends_in_the_message(clone: Path, words: list[str], file: str, expected: str) -> None:
    check(plan_fails(clone, *words), file, expected)


def test_snakemake_sees_a_repeated_key(clone: Path) -> None:
    path = clone / CONFIG
    before = path.read_text()
    path.write_text(before + "scale: small\n")
    try:
        check(plan_fails(clone, "--config", "seeds=1"), CONFIG, "key 'scale' is repeated")
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["collect", "--suite", "nope", "--output", "x"], "--suite: unknown suite 'nope'. Accepted: sas."),
        (
            ["collect", "--suite", "sas", "--output", "x", "--settings", "[1]"],
            "--settings: [1] … config.yaml",
        ),
        (["collect", "--suite", "sas", "--output", "x", "--settings", "{"], "--settings: not JSON"),
        (["report", "--output", "x", "--settings", '{"scale": 1}'], "--settings: scale: … '1' … demo, paper"),
        (["download", "--dataset", "mnist", "--file", "x", "--output", "x"], "--dataset: … 'mnist' … stl10"),
        (
            ["train", "--spec", "nofile", "--output", "x/y/z"],
            "--spec: 'nofile' … neither JSON text nor a file",
        ),
        (["train", "--spec", "{1}", "--output", "x/y/z"], "--spec: not JSON … from an artefact's spec.json"),
        (["train", "--spec", "config.yaml", "--output", "x/y/z"], "config.yaml: not JSON … spec.json"),
    ],
)
def test_scripts_end_in_the_message(clone: Path, words: list[str], expected: str) -> None:
    done = run(clone, f"scripts/{words[0]}.py", *words[1:])
    assert done.returncode == 2
    assert done.stdout == ""
    check(done.stderr.rstrip("\n"), "error: ", expected)


def test_a_spec_that_lacks_its_fields(clone: Path) -> None:
    done = run(clone, "scripts/train.py", "--spec", "{}", "--output", "x/y/z")
    first, *lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert first == f"error: {len(lines)} mistakes:"
    assert "  --spec: seeds: this key is missing." in lines
    assert not [word for word in FOREIGN if word in done.stderr]


def test_a_device_that_is_none(clone: Path) -> None:
    plan = load_plan({}, root=clone)
    spec = plan.spec("prepare", next(n.id for n in plan.graph.nodes.values() if n.spec.stage == "prepare"))
    words = ("--spec", spec, "--output", "x/y/z", "--device", "tpu")
    done = run(clone, "scripts/prepare.py", *words)
    assert done.returncode == 2
    check(done.stderr.rstrip("\n"), "error: --device", "'tpu' is not accepted … auto, cpu, cuda or cuda:N")
    assert not (clone / "x").exists()


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_tells_what_a_script_writes(script: str) -> None:
    done = run(ROOT, f"scripts/{script}.py", "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    text, options = re.split(
        r"^(?:options|positional arguments):$", done.stdout, maxsplit=1, flags=re.MULTILINE
    )
    text = text.split("\n\n", maxsplit=1)[1]
    assert re.search(r"\w\.(json|npy|parquet|html|md|png|yaml|gz)\b|\bprints?\b", text, re.IGNORECASE), text
    assert f"python scripts/{script}.py" in text, "shows an example"
    for option in re.findall(r"(?<= )--[a-z-]+", text):
        assert option in options, f"the example's {option} does not exist"
