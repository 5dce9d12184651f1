"""The trained part of `mmcl_robustness`: image-text and supervised training differ in their loss alone."""

from __future__ import annotations

from functools import cache

from winnow.plan.graph import Cell
from winnow.plan.plan import Plan, load_plan
from winnow.plan.specs import Ref, TrainSpec

SHARED = ("lr", "weight_decay", "warmup", "precision")


@cache
def plan() -> Plan:
    return load_plan({"scale": "small", "suites": ["mmcl_robustness"]}, check_sources=False)


def cells(*arms: str) -> list[Cell]:
    return [cell for cell in plan().graph.cells["mmcl_robustness"] if cell.arm in arms]


def training(reference: Ref | None) -> TrainSpec:
    assert reference is not None
    spec = plan().graph.nodes[reference].spec
    assert isinstance(spec, TrainSpec)
    return spec


def test_what_the_two_trainings_share_is_equal() -> None:
    by_image = {cell.dataset: training(cell.train) for cell in cells("full")}
    assert len(cells("clip")) > 10
    for cell in cells("clip"):
        clip, tower = training(cell.train), by_image[cell.dataset]
        assert (clip.trainer.name, tower.trainer.name) == ("clip", "supervised")
        assert {key: clip.trainer.params[key] for key in SHARED} == {
            key: tower.trainer.params[key] for key in SHARED
        }
        assert tower.trainer.params["optimiser"] == "adamw" and clip.trainer.params["augment"] is None
        assert tower.trainer.params["crop"] == 0 and not tower.trainer.params["flip"]
        assert (clip.model, clip.epochs, clip.batch_size) == (tower.model, tower.epochs, tower.batch_size)
        assert clip.data == tower.data and clip.seeds == tower.seeds


def test_batches_divide_every_size_so_that_the_steps_are_equal() -> None:
    """Contrastive training drops a partial batch, supervised training takes it."""
    for cell in cells("clip", "tower"):
        spec = training(cell.train)
        assert spec.budget and spec.budget % spec.batch_size == 0, (cell.dataset, cell.fraction)


def test_the_baselines_line_has_at_least_six_points() -> None:
    drawn = next(
        figure for figure in plan().suites["mmcl_robustness"].figures if figure.name == "trained_models"
    )
    for grid in drawn.options["grids"]:
        assert len({cell.fraction for cell in cells("tower") if cell.dataset == grid}) >= 6


def test_a_probe_looks_at_the_same_models_as_zero_shot() -> None:
    trained = {
        grid: {cell.train for cell in cells("clip", "tower") if cell.dataset == grid}
        for grid in ("emoji_style", "emoji_style_probe")
    }
    assert trained["emoji_style"] == trained["emoji_style_probe"]
