"""What every method of distillation keeps, and what single ones are known to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_views import CLASSES, LOOPS, METHODS, MODEL, OWN_START, SIZE, M, N, distill, make_view, params_of
from safetensors.torch import save_file
from torch import Tensor

from winnow import registry
from winnow.distill.engine import gradients, trajectories
from winnow.distill.engine.convnet_student import student_of
from winnow.distill.engine.distributions import match_means
from winnow.distill.engine.objective import one_hot
from winnow.distill.engine.params import DistributionParams, TrajectoryParams
from winnow.distill.engine.students import AutogradStudent, flat
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.train.engine.trajectory import Trajectory, read_epochs


@pytest.mark.parametrize("name", METHODS)
def test_a_set_has_its_budget_and_moves_from_where_it_starts(name: str, tmp_path: Path) -> None:
    found, view = distill(name, tmp_path), make_view(tmp_path, name)
    given = found.given
    assert given.images.shape == (M, 1, SIZE, SIZE) and given.images.dtype == torch.float32
    assert bool(torch.isfinite(given.images).all())
    assert torch.equal(given.labels, view.real.labels[view.start])
    moved = (given.images - view.real.images[view.start]).abs().flatten(1).amax(1)
    assert bool((moved > 0).all()), "every image takes part"
    if name not in OWN_START:
        assert torch.equal(found.snapshots[0], view.real.images[view.start][: len(found.labels)])
    assert found.iterations[0] == 0 and len(found.iterations) == len(found.snapshots)
    assert list(found.history["iteration"]) == list(range(1, len(found.history) + 1))


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_set_and_another_one_another(name: str, tmp_path: Path) -> None:
    first, again = (distill(name, tmp_path / part).given.images for part in ("a", "b"))
    assert torch.equal(first, again)
    view = replace(make_view(tmp_path, name), seed=1)
    other = registry.load("distill", name, "").function(params_of(name), view).given.images
    assert not torch.equal(first, other)


class _Killed(Exception):
    pass


@pytest.mark.parametrize(("name", "norm"), [*((name, "instance") for name in LOOPS), ("krr_st", "batch")])
def test_a_killed_distillation_goes_on_to_the_same_set(
    name: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rates that are halved on plateaus are, here, wherever a loss is not the least one so far.
    monkeypatch.setattr("winnow.distill.engine.learned.PATIENCE", 0)
    whole = distill(name, tmp_path / "whole", norm=norm)
    monkeypatch.setitem(os.environ, "WINNOW_CHECKPOINT_SECONDS", "0")
    from winnow.train.engine.loop import Loop

    save, saved = Loop._save, []

    def killing(loop: Loop, step: int) -> None:
        save(loop, step)
        saved.append(step)
        if len(saved) == 2:
            raise _Killed

    monkeypatch.setattr(Loop, "_save", killing)
    monkeypatch.setattr(Loop, "_due", lambda loop: True)
    with pytest.raises(_Killed):
        distill(name, tmp_path / "cut", norm=norm)
    monkeypatch.setattr(Loop, "_save", save)
    resumed = distill(name, tmp_path / "cut", norm=norm)
    assert torch.equal(whole.given.images, resumed.given.images)
    assert torch.equal(whole.snapshots, resumed.snapshots)
    assert whole.history.equals(resumed.history)


@pytest.mark.parametrize(
    "name", [n for n in METHODS if "init" in registry.load("distill", n, "").params.model_fields]
)
def test_noise_is_a_start_too(name: str, tmp_path: Path) -> None:
    found = distill(name, tmp_path, init="noise")
    assert not torch.equal(found.snapshots[0], make_view(tmp_path, name).real.images[:M])


def test_methods_for_labels_refuse_targets(tmp_path: Path) -> None:
    for name in ("dc", "dm"):
        view = make_view(tmp_path, name, regress=True)
        with pytest.raises(UserError, match="needs labels"):
            registry.load("distill", name, "").function(params_of(name), view)


# -- trajectories -------------------------------------------------------------------------------------


def test_mkdt_learns_targets_and_step_size_and_follows_all_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def watched(path: Path, epochs: tuple[int, ...]) -> list[Tensor]:
        opened.append(path.name)
        return read_epochs(path, epochs)

    monkeypatch.setattr("winnow.distill.engine.view.read_epochs", watched)
    paper = distill("mkdt", tmp_path / "paper", iterations=8)
    assert len(set(opened)) == 2
    opened.clear()
    distill("mkdt", tmp_path / "released", "released", iterations=8)
    assert set(opened) == {"expert_000.safetensors"}
    view = make_view(tmp_path, "mkdt")
    assert paper.given.targets is not None and view.real.targets is not None
    assert not torch.equal(paper.given.targets, view.real.targets[view.start])
    assert paper.given.step_size != params_of("mkdt").step_size
    assert paper.given.soft is None


def test_both_ways_through_memory_give_the_same_set(tmp_path: Path) -> None:
    fast, plain = (distill("mtt", tmp_path / way, memory=way).given for way in ("recursion", "graph"))
    torch.testing.assert_close(fast.images, plain.images, rtol=1e-4, atol=1e-5)
    assert fast.step_size == pytest.approx(plain.step_size, rel=1e-5)


def test_teslas_variants_differ_and_its_exact_one_is_mtt(tmp_path: Path) -> None:
    paper, exact = (distill("tesla", tmp_path / v, v).given.images for v in ("paper", "exact"))
    mtt = distill("mtt", tmp_path / "mtt").given.images
    assert torch.equal(exact, mtt) and not torch.equal(paper, exact)


def test_batches_are_taken_from_the_end_of_an_order_and_cover_it(tmp_path: Path) -> None:
    found = trajectories.batches_of(10, 4, 7, torch.Generator().manual_seed(0))
    assert [len(rows) for rows in found] == [2, 4, 4, 2, 4, 4, 2]
    for place in (0, 3):
        assert sorted(torch.cat(found[place : place + 3]).tolist()) == list(range(10))
    assert [len(rows) for rows in trajectories.batches_of(5, None, 3, torch.Generator())] == [5, 5, 5]


def test_an_expert_that_is_too_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained for 3 epochs, but epoch 5 is asked for"):
        distill("mtt", tmp_path, max_start=1, expert_epochs=5)


def test_a_trajectory_holds_copies(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    kept = Trajectory(network, steps=4, steps_per_epoch=2)
    for step in range(4):
        with torch.no_grad():
            network.weight += 1
        kept.after_step(step)
    kept.save(tmp_path / "expert.safetensors")
    first, middle, last = read_epochs(tmp_path / "expert.safetensors", (0, 1, 2))
    torch.testing.assert_close(middle - first, torch.tensor([2.0, 2, 2, 2, 0, 0]))
    torch.testing.assert_close(last - first, torch.tensor([4.0, 4, 4, 4, 0, 0]))


# -- gradients and distributions ----------------------------------------------------------------------


def test_the_distance_of_gradients_is_a_sum_over_output_channels() -> None:
    shapes = [torch.Size((4, 3, 3, 3)), torch.Size((4,)), torch.Size((5, 8))]
    first, second = (torch.randn(sum(shape.numel() for shape in shapes)) for _ in range(2))
    total, begin = 0.0, 0
    for shape in shapes:
        a, b = (part[begin : begin + shape.numel()].view(shape[0], -1) for part in (first, second))
        begin += shape.numel()
        if len(shape) > 1:
            total += sum(
                1 - float(torch.nn.functional.cosine_similarity(a[row], b[row], dim=0))
                for row in range(shape[0])
            )
    assert gradients.distance(first, second, shapes).item() == pytest.approx(total, rel=1e-4)
    assert gradients.distance(first, first, shapes).item() == pytest.approx(0, abs=1e-3)


def test_the_gradient_distance_has_the_derivative_of_double_backward(tmp_path: Path) -> None:
    view = make_view(tmp_path, "dc")
    network = view.network(0).double()
    weights, shapes = flat(network.parameters()), [p.shape for p in network.parameters()]
    parts = []
    for label in range(2):
        real, own = view.real.take(view.members()[label][:8]), view.real.take(view.members()[label][8:11])
        own_images = own.images.double().requires_grad_()
        parts.append(
            (
                real.images.double(),
                one_hot(real.labels, CLASSES).double(),
                own_images,
                one_hot(own.labels, CLASSES).double(),
            )
        )
    found = gradients.gradient_distance(student_of(network, "cross_entropy"), weights, shapes, parts)
    ours = torch.autograd.grad(found, [pair[2] for pair in parts])

    leaf, automatic = weights.clone().requires_grad_(), AutogradStudent(network, "cross_entropy")
    sums = []
    for at in (0, 2):
        losses = [automatic.loss(leaf, pair[at], pair[at + 1]) for pair in parts]
        sums.append(torch.autograd.grad(torch.stack(losses).mean(), leaf, create_graph=True)[0])
    loss = gradients.distance(sums[0].detach(), sums[1], shapes)
    wanted = torch.autograd.grad(loss, [pair[2] for pair in parts])
    torch.testing.assert_close(found, loss)
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_equal_batches_are_at_no_distance(tmp_path: Path) -> None:
    view = make_view(tmp_path, "dc")
    network = view.network(0)
    own = view.real.take(view.members()[0])
    pair = (own.images, one_hot(own.labels, CLASSES)) * 2
    weights, shapes = flat(network.parameters()), [p.shape for p in network.parameters()]
    loss = gradients.gradient_distance(student_of(network, "cross_entropy"), weights, shapes, [pair])
    assert loss.item() == pytest.approx(0, abs=1e-2)


def test_dcc_compares_classes_together(tmp_path: Path) -> None:
    together, apart = (
        distill("dcc", tmp_path / str(value), together=value).given.images for value in (True, False)
    )
    assert not torch.equal(together, apart)
    assert torch.equal(apart, distill("dsa", tmp_path / "dsa").given.images)


def test_whole_classes_have_the_means_of_themselves(tmp_path: Path) -> None:
    view = make_view(tmp_path, "dm")
    view = replace(view, start=torch.arange(N))
    found = match_means(
        DistributionParams(iterations=1, augment="", lr_images=1e-3, batch_real=N, precision="fp32"), view
    )
    assert found.history["loss"][0] == pytest.approx(0, abs=1e-8)


def test_dm_comes_nearer_to_the_means_of_real_images(tmp_path: Path) -> None:
    losses = distill("dm", tmp_path, init="noise", iterations=100, augment="", batch_real=20)
    losses = losses.history["loss"]
    assert losses[-10:].mean() < 0.6 * losses[:10].mean()


def test_mtt_comes_nearer_to_the_expert(tmp_path: Path) -> None:
    """The expert has taken the steps that the real examples of the start lead to; noise has to learn it."""
    view = make_view(tmp_path, "mtt", experts=1)
    student = student_of(view.network(0), "cross_entropy")
    weights, rows = flat(view.network(0).parameters()), []
    for _ in range(3):
        rows.append(weights)
        for _ in range(3):
            real = view.real
            weights = weights - 0.1 * student.gradient(weights, real.images, one_hot(real.labels, CLASSES))
    save_file({"weights": torch.stack(rows)}, view.experts[0])
    params = TrajectoryParams(
        iterations=40,
        student_steps=3,
        expert_epochs=1,
        max_start=1,
        step_size=0.1,
        lr_images=3.0,
        init="noise",
        augment="",
    )
    losses = trajectories.match_trajectories(params, view).history["loss"]
    assert losses.iloc[-1] < 0.6 * losses.iloc[0]


def test_experts_of_another_model_are_told(tmp_path: Path) -> None:
    view = replace(make_view(tmp_path, "mtt"), model_params=MODEL.params(depth=2, width=8))
    with pytest.raises(UserError, match="the same model"):
        registry.load("distill", "mtt", "").function(params_of("mtt"), view)


# -- soft labels, windows, averages --------------------------------------------------------------------


def taught_view(folder: Path, name: str) -> DistillView:
    """Return a view whose experts have learned the classes."""
    view = make_view(folder, name)
    student, rows = student_of(view.network(0), "cross_entropy"), []
    weights = flat(view.network(0).parameters())
    for _ in range(8):
        rows.append(weights)
        for _ in range(10):
            wanted = one_hot(view.real.labels, CLASSES)
            weights = weights - 0.3 * student.gradient(weights, view.real.images, wanted)
    for number, path in enumerate(view.experts):
        save_file({"weights": torch.stack(rows) * (1 + 0.01 * number)}, path)
    return view


def test_datm_starts_from_what_experts_know_and_learns_soft_labels(tmp_path: Path) -> None:
    view = taught_view(tmp_path, "datm")
    changed, logits = trajectories.softened(view)
    labels = view.real.labels[changed.start]
    assert torch.equal(logits.argmax(1), labels), "only logits that are right count"
    assert torch.equal(torch.bincount(labels), torch.bincount(view.real.labels[view.start]))
    changes = {"labels": "experts", "first_max_start": 1, "max_start": 4, "lr_labels": 20.0}
    params = params_of("datm").model_copy(update=changes)
    given = registry.load("distill", "datm", "").function(params, view).given
    assert given.soft is not None and given.soft.shape == (M, CLASSES)
    torch.testing.assert_close(given.soft.sum(1), torch.ones(M))
    assert not torch.allclose(given.soft, logits.softmax(1))
    assert given.soft.requires_grad is False


def test_experts_that_know_too_little_are_told(tmp_path: Path) -> None:
    view = make_view(tmp_path, "datm")
    save_file({"weights": torch.zeros(4, view.parameters)}, view.experts[0])
    with pytest.raises(UserError, match="Train the experts for longer"):
        trajectories.softened(replace(view, experts=view.experts[:1]))


def test_the_window_of_epochs_grows_evenly() -> None:
    params = TrajectoryParams(iterations=11, first_max_start=2, max_start=12)
    assert [trajectories.latest(params, step) for step in (0, 5, 10)] == [2, 7, 12]
    assert trajectories.latest(TrajectoryParams(max_start=9), 3) == 9
    early = TrajectoryParams(iterations=100, first_max_start=2, max_start=12, grow_until=11)
    assert [trajectories.latest(early, step) for step in (0, 5, 10, 11, 99)] == [2, 7, 12, 12, 12]
    short = early.model_copy(update={"iterations": 6})
    assert trajectories.latest(short, 5) == 12, "a run that is shorter than that grows to its end"
    with pytest.raises(ValueError, match="min_start"):
        TrajectoryParams(min_start=15)


def test_a_loss_that_is_too_large_moves_nothing(tmp_path: Path) -> None:
    still = distill("mtt", tmp_path / "still", skip_above=1e-9)
    assert torch.equal(still.given.images, still.snapshots[0])
    assert still.given.step_size == pytest.approx(params_of("mtt").step_size)
    moved, skipping = distill("mtt", tmp_path / "a"), distill("mtt", tmp_path / "b", skip_above=1e9)
    assert torch.equal(moved.given.images, skipping.given.images)


def test_ftd_returns_the_running_average_of_the_images(tmp_path: Path) -> None:
    plain = distill("ftd", tmp_path / "plain", average=0.0, iterations=2)
    averaged = distill("ftd", tmp_path / "averaged", average=0.75, iterations=2)
    first, second, third = plain.snapshots
    wanted = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
    torch.testing.assert_close(averaged.given.images, wanted)


def test_dcc_compares_classes_apart_in_early_rounds_of_early_networks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    groups: list[int] = []
    own = gradients.gradient_distance

    def counted(student: Any, weights: Tensor, shapes: Any, pairs: Any, measure: Any) -> Tensor:
        groups.append(len(pairs))
        return own(student, weights, shapes, pairs, measure)

    monkeypatch.setattr(gradients, "gradient_distance", counted)
    distill("dcc", tmp_path, iterations=3, rounds=3, warm_up=2, warm_up_iterations=2)
    apart, whole = [1] * CLASSES, [CLASSES]
    assert groups == (apart + apart + whole) * 2 + whole * 3
    with pytest.raises(ValueError, match="never be compared together"):
        registry.load("distill", "dcc", "").params(rounds=10, iterations=100)


def test_what_no_method_can_use_is_told_before_any_work(tmp_path: Path) -> None:
    view = make_view(tmp_path, "mtt")
    method = registry.load("distill", "mtt", "").function
    unlabelled = replace(view.real, labels=torch.full((N,), -1))
    for changed, changes, message in (
        (replace(view, experts=()), {}, "no expert trajectories"),
        (view, {"lr_labels": 1.0}, "cannot be learned"),
        (view, {"max_start": 4}, "trained for 3 epochs, but epoch 4"),
        (replace(view, real=unlabelled), {}, "have no label"),
    ):
        with pytest.raises(UserError, match=message):
            method(params_of("mtt").model_copy(update=changes), changed)
