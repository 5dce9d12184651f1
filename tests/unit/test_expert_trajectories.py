"""Experts, what is asked of them, and training on what was distilled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_supervised import IMAGES, make_task
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from winnow import registry
from winnow.errors import UserError
from winnow.train.engine.classifier import build_classifier
from winnow.train.engine.loop import Loop
from winnow.train.engine.space import normalise
from winnow.train.engine.synthetic import SyntheticSet
from winnow.train.engine.task import Task
from winnow.train.engine.trajectory import Trajectory, flat

N = 40


def run(name: str, task: Task, **params: Any) -> dict[str, Any]:
    plugin = registry.load("train", name, "test")
    facts: dict[str, Any] = plugin.function(plugin.params(precision="fp32", **params), task)
    return facts


def small_task(folder: Path, **changes: Any) -> Task:
    folder.mkdir(exist_ok=True)
    plugin = registry.load("models", "convnet", "test")
    own = {"model": plugin, "model_params": plugin.params(depth=1, width=4)} | changes
    return replace(make_task(folder, rows=torch.arange(N)), epochs=3, batch_size=16, **own)


def targets(width: int = 6) -> Tensor:
    return torch.randn(len(IMAGES), width, generator=torch.Generator().manual_seed(4))


def test_an_expert_has_the_weights_of_every_epoch(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    run("experts", task, count=2, lr=0.1, augment="")
    paths = sorted(task.out.glob("expert_*.safetensors"))
    assert [path.name for path in paths] == ["expert_000.safetensors", "expert_001.safetensors"]
    first, second = (load_file(path)["weights"] for path in paths)
    assert first.shape[0] == 4 and first.dtype == torch.float32
    assert len({tuple(row[:50].tolist()) for row in first}) == 4, "no two epochs are the same"
    assert torch.equal(first[0], flat(build_classifier(task, None, 0)))
    assert not torch.equal(first, second)


def test_epochs_that_were_not_reached_are_zeros() -> None:
    torch.use_deterministic_algorithms(True)  # what is not initialised is NaN then
    try:
        weights = Trajectory(nn.Linear(3, 2), steps=20, steps_per_epoch=5).weights
    finally:
        torch.use_deterministic_algorithms(False)
    assert weights.shape == (5, 8) and weights[0].any() and not weights[1:].any()


def test_an_expert_takes_the_steps_of_plain_sgd(tmp_path: Path) -> None:
    task = replace(small_task(tmp_path), epochs=1, batch_size=N)
    run("experts", task, lr=0.2, augment="", momentum=0.0, weight_decay=0.0)
    begun, ended = load_file(task.out / "expert_000.safetensors")["weights"]
    model = build_classifier(task, None, 0)
    pixels = normalise(task.pixels[:N].float() / 255, task.mean, task.std)
    loss = torch.nn.functional.cross_entropy(model(pixels), task.labels[:N])
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(ended, begun - 0.2 * gradient, rtol=1e-4, atol=1e-6)


def test_a_killed_expert_goes_on_to_the_same_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_task(tmp_path / "whole")
    run("experts", whole, count=2, lr=0.1)
    step, taken = Loop._step, []

    def killing(loop: Loop, number: int, rows: Tensor) -> Tensor:
        taken.append(number)
        if len(taken) == 12:
            raise KeyboardInterrupt
        return step(loop, number, rows)

    cut = small_task(tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", killing)
        patch.setattr(Loop, "_due", lambda loop: True)
        with pytest.raises(KeyboardInterrupt):
            run("experts", cut, count=2, lr=0.1)
    run("experts", cut, count=2, lr=0.1)
    for name in ("expert_000.safetensors", "expert_001.safetensors"):
        one, other = (load_file(task.out / name)["weights"] for task in (whole, cut))
        assert torch.equal(one, other)


def test_experts_regress_on_targets(tmp_path: Path) -> None:
    task = small_task(tmp_path, targets=targets())
    facts = run("experts", task, lr=0.05, augment="")
    begun, *_, ended = load_file(task.out / "expert_000.safetensors")["weights"]
    model = build_classifier(task, 6, 0)
    pixels = normalise(task.pixels[:N].float() / 255, task.mean, task.std)
    errors = []
    for weights in (begun, ended):
        vector_to_parameters(weights, model.parameters())
        errors.append(torch.nn.functional.mse_loss(model(pixels), targets()[:N]).item())
    assert errors[1] < errors[0]
    assert len(facts["last_losses"]) == 1


def made(soft: bool = False, regress: bool = False, step_size: float | None = None) -> SyntheticSet:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    images = torch.randn(12, 1, 8, 8, generator=random) + labels[:, None, None, None]
    return SyntheticSet(
        images,
        labels,
        torch.eye(10)[labels] if soft else None,
        step_size,
        targets(5)[:12] if regress else None,
    )


def test_a_model_is_trained_on_the_set_and_not_on_the_pool(tmp_path: Path) -> None:
    weights = []
    for pool in (IMAGES, torch.zeros_like(IMAGES)):
        task = small_task(tmp_path / str(len(weights)), images=pool, synthetic=made())
        task = replace(task, rows=torch.arange(12))
        run("distilled", task, augment="")
        weights.append(load_file(task.out / "model.safetensors")["head.weight"])
        assert (task.out / "test_logits.npy").is_file()
    assert torch.equal(*weights)


def test_hard_labels_are_soft_labels_of_one_class(tmp_path: Path) -> None:
    found = []
    for soft in (False, True):
        task = small_task(tmp_path / str(soft), synthetic=made(soft))
        run("distilled", replace(task, rows=torch.arange(12)), augment="")
        found.append(load_file(task.out / "model.safetensors")["head.weight"])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("learned", "used"), [(0.3, 0.3), (-0.2, 0.02), (None, 0.02)])
def test_the_learned_step_size_is_used_where_it_can_be(
    tmp_path: Path, learned: float | None, used: float
) -> None:
    task = replace(small_task(tmp_path, synthetic=made(step_size=learned)), rows=torch.arange(12))
    assert run("distilled", task, lr=0.02, learned_rate=True)["lr_used"] == pytest.approx(used)
    assert run("distilled", small_task(tmp_path / "b", synthetic=None), lr=0.02)["lr_used"] == 0.02


def test_models_that_regress_have_as_many_outputs_and_no_logits(tmp_path: Path) -> None:
    for name, changes, rows, width in (
        ("set", {"synthetic": made(regress=True)}, 12, 5),
        ("pool", {"targets": targets()}, N, 6),
    ):
        task = replace(small_task(tmp_path / name, **changes), rows=torch.arange(rows))
        run("distilled", task, augment="", schedule="constant")
        assert load_file(task.out / "model.safetensors")["head.weight"].shape[0] == width
        assert not (task.out / "test_logits.npy").exists()


def test_what_cannot_be_trained_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no weights"):
        run("distilled", small_task(tmp_path, weights=torch.ones(N)))
    with pytest.raises(UserError, match="have no label"):
        run("distilled", small_task(tmp_path / "b", labels=torch.full((len(IMAGES),), -1)))


def test_an_untrained_model_is_as_it_was_initialised(tmp_path: Path) -> None:
    task = small_task(tmp_path)
    plugin = registry.load("train", "untrained", "test")
    plugin.function(plugin.params(), task)
    saved, fresh = load_file(task.out / "model.safetensors"), build_classifier(task).state_dict()
    assert all(torch.equal(saved[name], value) for name, value in fresh.items())


def test_a_probe_with_all_labels_learns_what_is_linear_and_few_labels_cost_accuracy() -> None:
    from winnow.evaluate.few_label_probe import FewLabelProbeParams, evaluate

    random = np.random.default_rng(0)
    labels = np.arange(600) % 4
    features = (np.eye(4)[labels] @ random.normal(size=(4, 20)) * 2 + random.normal(size=(600, 20))).astype(
        np.float32
    )

    class Data:
        def labels(self, split: str) -> np.ndarray:
            return labels[:400] if split == "train" else labels[400:]

    class View:
        data, transfer = Data(), {}  # type: ignore[var-annotated]
        random = np.random.default_rng(1)

        def encode(self, split: str) -> np.ndarray:
            return features[:400] if split == "train" else features[400:]

    found = evaluate(FewLabelProbeParams(shares=(0.01, 0.5)), View())  # type: ignore[arg-type]
    assert found["test_accuracy"] == found["labels_1pct_accuracy"]
    assert found["labels_50pct_accuracy"][0] > 0.95 and found["labels_50pct_accuracy"][1] == 200
    assert found["labels_1pct_accuracy"][0] < found["labels_50pct_accuracy"][0]
    unbalanced = evaluate(FewLabelProbeParams(shares=(0.005,), balanced=False), View())  # type: ignore[arg-type]
    assert unbalanced["labels_0_5pct_accuracy"][0] < 0.95


def test_experts_with_running_statistics_are_refused(tmp_path: Path) -> None:
    plugin = registry.load("models", "convnet", "test")
    task = small_task(tmp_path, model=plugin, model_params=plugin.params(depth=1, width=4, norm="batch"))
    with pytest.raises(UserError, match="running statistics"):
        run("experts", task)
