"""The plan of supervised suites: proxies, folds, arms with other settings, sizes of one dataset, measures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_inputs import CONFIG, ROOT, change, copy_inputs, read

from winnow.errors import UserError
from winnow.plan.estimate import split_sizes
from winnow.plan.graph import Cell
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import EvaluateSpec, PrepareSpec, SignalSpec, TrainSpec
from winnow.plan.suite import merged
from winnow.train.engine.task import steps_per_epoch

SUITE = """
name: toy
title: Toy
question: Does the plan say what the suite says?
source: {paper: none}
arms:
  full: {label: all, role: reference, method: full}
  random: {label: random, role: control, method: random, lengths: [epochs, steps]}
  hard: {label: hard, role: method, method: el2n, fractions: [0.5]}
  clean: {label: clean, role: method, method: confident_learning, fractions: [0.5]}
  often: {label: often, role: method, method: useful}
  sharp:
    label: sharp
    role: control
    method: full
    fractions: [1.0]
    training: {trainer: {params: {optimiser: sam}}}
  other: {label: other, role: control, method: random, fractions: [0.5], training: {model: {name: convnet}}}
scales:
  demo:
    defaults:
      fractions: {epochs: [0.5, 1.0], steps: [0.5]}
      seeds: 2
      proxy: &train
        trainer: {name: supervised, params: {crop: 1}}
        model: {name: mlp, params: {depth: 1}}
        epochs: 3
        batch_size: 100
      training: *train
      evaluation: {name: accuracy}
      measures: [{name: noise_detection}]
      signals: {residual_norms: {proxies: 3}, heldout_logits: {folds: 2}}
      holdout: 37
    datasets:
      digits_noisy: {}
      digits_300: {dataset: digits_noisy, limits: {train: 300}}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_inputs(tmp_path)
    (tmp_path / "suites/toy.yaml").write_text(SUITE)
    change(tmp_path / CONFIG, "suites", ["toy"])
    for name in ("WINNOW_MIRROR", "WINNOW_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def plan(tree: Path, **settings: Any) -> Plan:
    return load_plan(read(tree / CONFIG) | settings, root=tree)


def cells(planned: Plan, **wanted: Any) -> list[Cell]:
    found = planned.graph.cells["toy"]
    return [cell for cell in found if all(getattr(cell, key) == value for key, value in wanted.items())]


def spec(planned: Plan, reference: str) -> Any:
    return planned.graph.nodes[reference].spec


def test_grids_of_one_dataset_differ_in_size_and_share_the_entry(tree: Path) -> None:
    planned = plan(tree)
    prepared = {cell.dataset: spec(planned, cell.data) for cell in planned.graph.cells["toy"]}
    assert all(
        isinstance(found, PrepareSpec) and found.dataset == "digits_noisy" for found in prepared.values()
    )
    assert prepared["digits_noisy"].limits == {} and prepared["digits_300"].limits == {"train": 300}
    budgets = {
        cell.dataset: planned.graph.nodes[cell.train].spec.model_dump()["budget"]
        for cell in cells(planned, arm="random", length="epochs")
    }
    assert budgets == {"digits_noisy": 700, "digits_300": 150}, "half of 1437 - 37, and half of 300"


def test_several_proxies_and_folds_are_trained_with_draws_of_their_own(tree: Path) -> None:
    planned = plan(tree)
    for arm, count in (("hard", 3), ("clean", 2)):
        (cell, *_) = cells(planned, arm=arm)
        proxies = [spec(planned, ref) for ref in cell.upstream if ref.startswith("train/")]
        assert [proxy.proxy for proxy in proxies] == list(range(count))
        folds = [proxy.fold for proxy in proxies]
        assert folds == ([None] * 3 if arm == "hard" else [(0, 2), (1, 2)])
        (signal,) = [spec(planned, ref) for ref in cell.upstream if ref.startswith("signals/")]
        assert isinstance(signal, SignalSpec) and list(signal.uses) == [f"model{k}" for k in range(count)]
        assert spec(planned, cell.train).proxy is None


def test_arms_change_the_settings_they_name_and_no_other(tree: Path) -> None:
    planned = plan(tree)
    base = spec(planned, cells(planned, arm="full")[0].train)
    sharp = spec(planned, cells(planned, arm="sharp")[0].train)
    assert isinstance(sharp, TrainSpec)
    assert sharp.trainer.params == base.trainer.params | {"optimiser": "sam"}
    assert sharp.model == base.model
    other = spec(planned, cells(planned, arm="other")[0].train)
    assert other.model.name == "convnet" and other.trainer == base.trainer
    assert other.model.params["depth"] == 3, "another model takes none of the parameters of the first"


def test_lengths_and_resampling(tree: Path) -> None:
    planned = plan(tree)
    lengths = {
        c.length: spec(planned, c.train).steps_as for c in cells(planned, arm="random", dataset="digits_300")
    }
    assert lengths == {"epochs": None, "steps": 300}
    (often, *_) = cells(planned, arm="often", dataset="digits_300")
    assert often.fraction == 1.0 and spec(planned, often.select).budget == 300
    assert spec(planned, often.train).budget is None, "the method decides how many examples there are"


def test_measures_look_at_selections(tree: Path) -> None:
    planned = plan(tree)
    (full, *_), (hard, *_) = cells(planned, arm="full"), cells(planned, arm="hard")
    assert full.measures == () and len(hard.measures) == 1
    measured = spec(planned, hard.measures[0])
    assert isinstance(measured, EvaluateSpec) and measured.subject == hard.select
    assert measured.budget == 700, "a nested method's full ordering is cut where the training cuts it"
    assert planned.path(hard.measures[0]) in planned.collect_inputs("toy")


def test_options_of_a_grid_change_its_data_alone(tree: Path) -> None:
    path = tree / "suites/toy.yaml"
    grids = {
        "poor": {"dataset": "digit_captions", "options": {"richness": 0.5}},
        "rich": {"dataset": "digit_captions", "options": {"richness": 1.0}},
        "whole": {"dataset": "digit_captions"},
    }
    change(path, "scales/demo/datasets", grids)
    change(path, "scales/demo/defaults/measures", [])
    planned = plan(tree)
    prepared = {cell.dataset: spec(planned, cell.data) for cell in planned.graph.cells["toy"]}
    assert {name: found.entry["options"] for name, found in prepared.items()} == {
        "poor": {"richness": 0.5},
        "rich": {"richness": 1.0},
        "whole": {"richness": "full"},
    }
    assert len({cell.data for cell in planned.graph.cells["toy"]}) == 3


def test_a_protocol_that_needs_a_validation_split_asks_for_it(tree: Path) -> None:
    path = tree / "suites/toy.yaml"
    change(path, "scales/demo/defaults/evaluation", {"name": "shift"})
    assert plan(tree)
    change(path, "scales/demo/defaults/holdout", 0)
    with pytest.raises(UserError, match=r"toy\.yaml.*holdout: 'shift' needs a validation split"):
        plan(tree)


@pytest.mark.parametrize(
    ("arm", "asker"),
    [("image", "'near_target' .*arms.image"), ("filter_network", "the proxy of 'filter network' .*arms")],
)
def test_signals_that_need_a_validation_split_ask_for_it(tree: Path, arm: str, asker: str) -> None:
    path, settings = tree / "suites/filtering.yaml", {"suites": ["filtering"]}
    shutil.copy(ROOT / "suites/filtering.yaml", path)
    change(path, "scales/demo/defaults/arms", ["full", "clip_score", "random", arm])
    change(path, "scales/demo/defaults/fractions", {"epochs": [0.5], "steps": [0.5]})
    with pytest.raises(UserError, match=rf"filtering\.yaml.*holdout: {asker}.* needs a validation split"):
        plan(tree, **settings)
    change(path, "scales/demo/defaults/holdout", 100)
    assert any(cell.arm == arm for cell in plan(tree, **settings).graph.cells["filtering"])


def test_other_data_stand_for_the_target_and_train_filter_networks(tree: Path) -> None:
    path, settings = tree / "suites/filtering.yaml", {"suites": ["filtering"]}
    shutil.copy(ROOT / "suites/filtering.yaml", path)
    change(path, "scales/demo/defaults/arms", ["full", "clip_score", "random", "image", "filter_network"])
    change(path, "scales/demo/defaults/fractions", {"epochs": [0.5], "steps": [0.5]})
    change(path, "scales/demo/defaults/target_images", "digits")
    change(path, "scales/demo/defaults/clean_pairs", "digit_captions")
    planned = plan(tree, **settings)
    nodes = {reference: node.spec for reference, node in planned.graph.nodes.items()}
    (near,) = [s for s in nodes.values() if isinstance(s, SignalSpec) and s.signal.name == "near_target"]
    target = nodes[near.uses["target"]]
    assert isinstance(target, PrepareSpec) and (target.dataset, target.limits) == ("digits", {})
    (cell,) = [cell for cell in planned.graph.cells["filtering"] if cell.arm == "filter_network"]
    proxies = [s for r, s in nodes.items() if r in cell.upstream and isinstance(s, TrainSpec)]
    clean = [spec(planned, proxy.data).dataset for proxy in proxies]
    asked = [s for r, s in nodes.items() if r in cell.upstream and isinstance(s, SignalSpec)]
    assert len(asked) == 2 and all(s.uses["seen0"] == proxies[0].data for s in asked), "their normalisation"
    assert clean == ["digit_captions"] and proxies[0].split is None, "its proxy sees nothing of the pool"
    for key, name, message in (
        ("target_images", "linear_intra_class", "no training images"),
        ("clean_pairs", "digits", "no pairs with images of"),
        ("clean_pairs", "digit_caption", "Did you mean 'digit_captions'"),
    ):
        wrong = read(path)["scales"]["demo"]["defaults"][key]
        change(path, f"scales/demo/defaults/{key}", name)
        with pytest.raises(UserError, match=rf"filtering\.yaml.*{key}.*{message}"):
            plan(tree, **settings)
        change(path, f"scales/demo/defaults/{key}", wrong)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("arms/often/fractions", [0.5], "Accepted: \\[1.0\\]"),
        ("arms/sharp/training/trainer/params/optimiser", "sgdd", "arms.sharp|training.trainer"),
        ("arms/sharp/training/trainr", {}, "trainr"),
        ("scales/demo/datasets/digits_300/dataset", "digts", "Did you mean|digits"),
        ("scales/demo/datasets/digits_300/limits/train", 1420, "37 held out"),
        ("scales/demo/defaults/measures/0/name", "noise", "protocol"),
        ("scales/demo/defaults/measures/0/name", "accuracy", "belongs under `evaluation`"),
        ("scales/demo/defaults/evaluation/name", "noise_detection", "belongs under `measures`"),
        ("scales/demo/datasets/digits_300/dataset", "digits", "needs clean labels"),
        ("scales/demo/defaults/arm_fractions", {"hard": [0.25]}, "arm 'hard' has no share"),
        ("scales/demo/defaults/arm_fractions", {"hrad": [0.5]}, "Did you mean 'hard'"),
        ("scales/demo/defaults/arm_trainings", {"othr": {"training": {}}}, "Did you mean 'other'"),
        ("scales/demo/defaults/arm_trainings", {"other": {"trainng": {}}}, "trainng"),
        (
            "scales/demo/datasets/digits_300/arm_trainings",
            {"other": {"training": {"epoch": 1}}},
            r"digits_300\.arm_trainings\.other.*training.*'epoch'",
        ),
        ("scales/demo/defaults/arm_trainings", {"other": {"experts": {"epochs": 1}}}, "has no `experts`"),
        ("scales/demo/defaults/holdout", 5000, "holdout: 5000 examples"),
        ("arms/hard/method", "forgetting", "record: true"),
        ("scales/demo/defaults/proxy/trainer", {"name": "simclr"}, "'simclr' learns no labels.*`supervised`"),
        ("arms/hard/method", "clip_score", "'supervised' learns no captions.*`clip`"),
        ("scales/demo/defaults/evaluation/name", "zero_shot", "'supervised' learns no captions.*'zero_shot'"),
        ("scales/demo/datasets/digits_300/options", {"source": "mnist"}, "digits_300.*source|options.source"),
        ("scales/demo/datasets/digits_300/options", {"sauce": 1}, "sauce"),
    ],
)
def test_mistakes_name_the_key(tree: Path, keys: str, value: Any, message: str) -> None:
    path = tree / "suites/toy.yaml"
    change(path, keys, value)
    with pytest.raises(UserError, match=message) as found:
        plan(tree)
    assert "toy.yaml" in str(found.value)


def test_an_arm_has_other_settings_at_one_scale(tree: Path) -> None:
    path = tree / "suites/toy.yaml"
    own = {"sharp": {"training": {"epochs": 7}}, "other": {"training": {"model": {"name": "linear"}}}}
    change(path, "scales/demo/datasets/digits_300/arm_trainings", own)
    found = {}
    planned = plan(tree)
    for cell in planned.graph.cells["toy"]:
        spec = planned.graph.nodes[cell.train].spec
        assert isinstance(spec, TrainSpec)
        optimiser = spec.trainer.params["optimiser"]
        found[cell.dataset, cell.arm] = (spec.epochs, spec.model.name, optimiser)
    assert found["digits_300", "sharp"] == (7, "mlp", "sam"), "laid over what the arm has of its own"
    assert found["digits_noisy", "sharp"] == (3, "mlp", "sam")
    assert found["digits_300", "other"][1] == "linear" and found["digits_noisy", "other"][1] == "convnet"


def test_a_figure_whose_baseline_is_not_run_is_refused_before_all_is_computed(tree: Path) -> None:
    path = tree / "suites/toy.yaml"
    change(path, "figures", [{"figure": "method_table", "options": {"baseline": "hard"}}])
    assert plan(tree)
    change(path, "scales/demo/defaults/arms", ["full", "random", "often", "clean", "sharp", "other"])
    change(path, "scales/small", read(path)["scales"]["demo"] | {"defaults": defaults(path, "hard")})
    with pytest.raises(
        UserError, match=r"toy\.yaml: figures: method_table.*'hard' is not run at the scale demo"
    ):
        plan(tree)
    change(path, "figures/0/scales", ["small"])
    assert plan(tree)


def defaults(path: Path, *arms: str) -> dict[str, Any]:
    """Return the demo's defaults for these arms and the reference alone."""
    found: dict[str, Any] = read(path)["scales"]["demo"]["defaults"]
    return found | {"arms": ["full", *arms]}


def test_all_arms_that_no_scale_runs_are_named_at_once(tree: Path) -> None:
    change(tree / "suites/toy.yaml", "scales/demo/defaults/arms", ["full", "random", "often"])
    with pytest.raises(UserError, match="no scale runs clean, hard, other, sharp"):
        plan(tree)


def test_data_without_classes_are_refused_by_what_needs_them(tree: Path) -> None:
    datasets, path = tree / "datasets.yaml", tree / "suites/toy.yaml"
    for name in ("digits", "digits_noisy"):
        change(datasets, f"{name}/classes", [])
    with pytest.raises(UserError, match=r"'supervised' learns labels, and digits_noisy has no classes"):
        plan(tree)
    clip = {"trainer": {"name": "clip"}, "model": {"name": "clip"}, "epochs": 1, "batch_size": 8}
    grid = {"fractions": {"epochs": [0.5]}, "seeds": 1, "proxy": clip, "training": clip}
    grid |= {"evaluation": {"name": "zero_shot"}}
    change(path, "arms", {
        "full": {"label": "all", "role": "reference", "method": "full"},
        "cov": {"label": "ClipCov", "role": "method", "method": "clipcov"},
    })  # fmt: skip
    change(path, "scales/demo", {"defaults": grid, "datasets": {"digits_noisy": {}}})
    with pytest.raises(
        UserError, match=r"'ClipCov' \(.*\) compares with the names of classes.*names: imagenet"
    ):
        plan(tree)
    named = {"latent_classes": {"names": "imagenet"}, "label_similarity": {"names": "imagenet"}}
    change(path, "scales/demo/defaults/signals", named)
    change(path, "metric", "image_to_text_recall_at_1")
    assert plan(tree)


CAPTIONED = """
name: toy
title: Toy
question: Is what it ranks by measured?
source: {paper: none}
metric: zero_shot_accuracy
arms: {full: {label: all, role: reference, method: full}}
scales:
  demo:
    defaults:
      fractions: {epochs: [0.5]}
      seeds: 1
      proxy: &clip {trainer: {name: clip}, model: {name: clip}, epochs: 1, batch_size: 8}
      training: *clip
      evaluation: {name: zero_shot, params: {recall: [1]}}
    datasets:
      digit_captions: {}
figures:
  - {figure: accuracy_vs_fraction, options: {metric: zero_shot_accuracy}}
"""


def test_a_metric_that_is_measured_nowhere_is_refused_before_all_is_computed(tree: Path) -> None:
    path = tree / "suites/toy.yaml"
    path.write_text(CAPTIONED)
    assert plan(tree)
    change(tree / "datasets.yaml", "digit_captions/classes", [])
    accepted = r"no classes in digit_captions. Accepted: image_to_text_recall_at_1, text_to_image_recall_at_1"
    with pytest.raises(UserError, match=rf"toy\.yaml: metric: 'zero_shot_accuracy' .*{accepted}"):
        plan(tree)
    change(path, "metric", "image_to_text_recall_at_1")
    figure = r"figures: accuracy_vs_fraction: options\.metric: 'zero_shot_accuracy'"
    with pytest.raises(UserError, match=rf"toy\.yaml: {figure} .*{accepted}"):
        plan(tree)
    change(path, "figures/0/options/metric", "text_to_image_recall_at_1")
    assert plan(tree)
    change(path, "scales/demo/datasets/coloured_digits_full", {})
    change(path, "metric", "zero_shot_accuracy")
    assert plan(tree), "another dataset of the scale has classes"


def test_a_metric_is_not_judged_where_a_protocol_does_not_declare_its_own(tree: Path) -> None:
    change(tree / "suites/toy.yaml", "metric", "anything")
    assert plan(tree)


def clipcov(tree: Path, scale: str) -> Plan:
    """Return the plan of the suite clipcov, wherever its data are."""
    shutil.copy(ROOT / "suites/clipcov.yaml", tree / "suites/clipcov.yaml")
    settings = read(tree / CONFIG) | {"suites": ["clipcov"], "scale": scale}
    return load_plan(settings, root=tree, check_sources=False)


def proxies_of(planned: Plan, arm: str, dataset: str) -> list[TrainSpec]:
    """Return the models that an arm of the suite clipcov selects by, at its first share."""
    cell = next(c for c in planned.graph.cells["clipcov"] if (c.arm, c.dataset) == (arm, dataset))
    found = [spec(planned, reference) for reference in cell.upstream]
    return [one for one in found if isinstance(one, TrainSpec)]


@pytest.mark.parametrize(
    ("scale", "dataset", "heldout"), [("small", "products", 1.0), ("paper", "cc3m", 0.1)]
)
def test_c_rhos_model_of_held_out_pairs_takes_the_steps_of_the_proxy(
    tree: Path, scale: str, dataset: str, heldout: float
) -> None:
    planned = clipcov(tree, scale)
    held, early = proxies_of(planned, "c_rho", dataset)
    (whole,) = proxies_of(planned, "clipcov_paper", dataset)
    assert held.split == "validation" and early.split is None and whole.split is None

    def steps(one: TrainSpec) -> int:
        examples = split_sizes(spec(planned, one.data))[one.split or "train"]
        return one.epochs * steps_per_epoch(one.steps_as or examples, one.batch_size, drop_last=True)

    assert steps(held) == heldout * steps(whole)
    assert early.steps_as is None and steps(early) == pytest.approx(0.2 * steps(whole), rel=0.3)


def test_the_control_of_the_class_sizes_has_those_of_clipcov(tree: Path) -> None:
    planned = clipcov(tree, "small")
    chosen = {
        cell.arm: spec(planned, cell.select)
        for cell in planned.graph.cells["clipcov"]
        if cell.dataset == "products" and cell.select and cell.fraction == 0.2
    }
    control, paper = chosen["random_quota"], chosen["clipcov_paper"]
    assert control.method.name == "clipcov"
    assert control.method.params == paper.method.params | {"members": "random"}
    assert (control.signals, control.seeds, control.data) == (paper.signals, paper.seeds, paper.data)


def test_settings_are_laid_over_each_other_by_key() -> None:
    base = {"trainer": {"name": "a", "params": {"x": 1, "y": {"z": 2}}}, "epochs": 3}
    own = yaml.safe_load("trainer: {params: {y: {w: 4}}}")
    assert merged(base, own) == {
        "trainer": {"name": "a", "params": {"x": 1, "y": {"z": 2, "w": 4}}},
        "epochs": 3,
    }
    assert merged(base, {"trainer": {"name": "b"}}) == {"trainer": {"name": "b"}, "epochs": 3}
    assert merged(base, {}) == base
