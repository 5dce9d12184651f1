"""Students that learn from a teacher's answers, on images that are cut and mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from distill_views import CLASSES, MODEL, SIZE, N, make_teacher
from safetensors.torch import save_file
from torch.nn import functional

from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.store import building, write_json
from winnow.train.engine.classifier import Classifier, assemble
from winnow.train.engine.loop import Loop, Passes
from winnow.train.engine.options import RecipeParams
from winnow.train.engine.recipe import Examples, training
from winnow.train.engine.teacher import load_teacher


def make_loop(
    folder: Path, teacher: torch.nn.Module | None, **settings: Any
) -> tuple[Loop, Examples, Classifier]:
    torch.manual_seed(0)
    examples = Examples(torch.randn(N, 1, SIZE, SIZE), torch.arange(N) % CLASSES)
    model = assemble(MODEL, MODEL.params(depth=2, width=4), 1, SIZE, CLASSES)
    params = RecipeParams(augment="", precision="fp32", **settings)
    passes = Passes(N, N, 0, 0, drop_last=False)
    return training(model, examples, params, passes, 20, folder / "c", "test", teacher), examples, model


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_the_cross_entropy_with_the_teachers_answers(tmp_path: Path, temperature: float) -> None:
    teacher = make_teacher()
    loop, examples, model = make_loop(tmp_path, teacher, temperature=temperature)
    with torch.no_grad():
        taught = (teacher(examples.images) / temperature).softmax(1)
        wanted = functional.cross_entropy(model(examples.images) / temperature, taught) * temperature**2
        torch.testing.assert_close(loop.step_loss(torch.arange(N), 0), wanted)


def test_students_come_to_answer_as_the_teacher_does(tmp_path: Path) -> None:
    teacher = make_teacher()
    loop, examples, model = make_loop(tmp_path, teacher, lr=0.05, schedule="constant")
    with torch.no_grad():
        before = (model(examples.images).softmax(1) - teacher(examples.images).softmax(1)).abs().mean()
        loop.run()
        after = (model(examples.images).softmax(1) - teacher(examples.images).softmax(1)).abs().mean()
    assert after < 0.5 * before


def test_the_teacher_is_asked_about_the_mixed_images(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Watched(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.zeros(len(images), CLASSES)

    loop, examples, _ = make_loop(tmp_path, Watched(), cutmix=1.0)
    torch.manual_seed(3)
    loop.step_loss(torch.arange(N), 0)
    (images,) = seen
    own = (images == examples.images).flatten(1).float().mean(1)
    assert bool((own > 0).all() and (own < 1).all())
    assert own.unique().numel() == 1, "one patch for the batch"


def test_labels_are_shared_as_pixels_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from winnow.train.engine import recipe

    given: list[torch.Tensor] = []
    own = recipe._soft_loss

    def watched(logits: torch.Tensor, logs: torch.Tensor, temperature: float) -> torch.Tensor:
        given.append(logs.exp())
        return own(logits, logs, temperature)

    monkeypatch.setattr(recipe, "_soft_loss", watched)
    loop, examples, _ = make_loop(tmp_path, None, cutmix=1.0)
    torch.manual_seed(3)
    loop.step_loss(torch.arange(N), 0)
    (shares,) = given
    torch.testing.assert_close(shares.sum(1), torch.ones(N))
    kept = shares[torch.arange(N), examples.labels]
    assert len(kept.round(decimals=5).unique()) <= 2, (
        "its own share, or all where the partner is of its class"
    )


def test_a_teacher_without_classes_is_told(tmp_path: Path) -> None:
    spec = {
        "seeds": [0],
        "root_seed": 0,
        "data": "prepare/x",
        "subset": None,
        "budget": None,
        "fraction": 1.0,
        "trainer": {"name": "simclr", "params": {}},
        "model": {"name": "convnet", "params": {"depth": 2, "width": 4}},
        "epochs": 1,
        "steps_as": None,
        "min_steps": 0,
        "batch_size": 2,
        "proxy": 0,
        "fold": None,
        "split": None,
    }
    with building(tmp_path / "teacher", {"spec": "x"}) as artefact:
        assert artefact is not None
        write_json(artefact.out / "spec.json", spec)
        save_file({"encoder.0.weight": torch.zeros(2)}, artefact.folder(0) / "model.safetensors")
    with pytest.raises(UserError, match=r"teacher: predicts no classes.*trainer supervised"):
        load_teacher(tmp_path / "teacher", 0, cast(Dataset, None))
