"""Training: exact resume, schedules, data order, the contrastive loss, augmentation, saved models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from winnow import registry
from winnow.errors import UserError
from winnow.store import Cost, building
from winnow.train.engine.augment import build_augmentation
from winnow.train.engine.contrastive import Contrastive, build_contrastive, load_contrastive, save_trained
from winnow.train.engine.loop import CHECK_EVERY, Loop, Passes, Schedule
from winnow.train.engine.losses import nt_xent
from winnow.train.engine.options import AugmentParams
from winnow.train.engine.space import normalise
from winnow.train.engine.task import Task

CPU = torch.device("cpu")
CONVNET = registry.load("models", "convnet", "test")
SIMCLR = registry.load("train", "simclr", "test")
WIDTH = CONVNET.params(depth=2, width=8, norm="batch")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums have one order only on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_task(folder: Path, **changes: Any) -> Task:
    """Return a SimCLR task on 60 random 8 x 8 images: 12 steps, 4 of them an epoch."""
    random = np.random.default_rng(5)
    images = torch.from_numpy(random.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8))
    (folder / "out").mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "images": images.contiguous(memory_format=torch.channels_last),
        "labels": torch.zeros(60, dtype=torch.int64),
        "rows": torch.arange(4, 54),
        "weights": None,
        "captions": list,
        "rounds": 1,
        "mean": torch.full((3,), 0.5),
        "std": torch.full((3,), 0.25),
        "classes": 2,
        "class_names": (),
        "model": CONVNET,
        "model_params": WIDTH,
        "epochs": 3,
        "steps_as": None,
        "min_steps": 0,
        "batch_size": 12,
        "root_seed": 0,
        "seed": 0,
        "context": (),
        "device": CPU,
        "checkpoint": folder / "s0.safetensors",
        "out": folder / "out",
        "label": "thing s0",
        "cost": Cost(),
        "heldout": dict,
        "scoring": Cost(),
    }
    return Task(**(fields | changes))


def train(task: Task, **params: Any) -> tuple[bytes, pd.DataFrame]:
    """Run SimCLR; returns the bytes of the saved model, and the history."""
    SIMCLR.function(SIMCLR.params(precision="fp32", projection=4, **params), task)
    return (task.out / "model.safetensors").read_bytes(), pd.read_parquet(task.out / "history.parquet")


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_due", lambda self: True)


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Make the first run of step `at` raise; later runs of it pass."""
    step, hit = Loop._step, []

    def broken(self: Loop, number: int, rows: Tensor) -> Tensor:
        if number == at and not hit:
            hit.append(number)
            raise KeyboardInterrupt
        return step(self, number, rows)

    monkeypatch.setattr(Loop, "_step", broken)


# -- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "cosine"), [(1, False), (4, True), (7, False), (11, True)])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    save_always: None,
    at: int,
    cosine: bool,
) -> None:
    weights, history = train(make_task(tmp_path / "whole"), cosine=cosine)
    capsys.readouterr()
    interrupt(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt):
        train(make_task(tmp_path / "cut"), cosine=cosine)
    torch.manual_seed(987)
    again, resumed = train(make_task(tmp_path / "cut"), cosine=cosine)
    assert f"resumed at step {at} of 12" in capsys.readouterr().err
    assert again == weights
    pd.testing.assert_frame_equal(resumed, history, check_exact=True)
    assert len(history) == 12
    assert (history["loss"] > 0).all()


def test_a_run_cut_after_its_last_step_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, history = train(make_task(tmp_path))
    monkeypatch.setattr(Loop, "_step", None)
    again, resumed = train(make_task(tmp_path))
    assert again == weights
    pd.testing.assert_frame_equal(resumed, history, check_exact=True)


def test_the_time_before_the_interruption_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_always: None
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr("winnow.train.engine.loop.time.perf_counter", lambda: clock["now"])
    step = Loop._step

    def slow(self: Loop, number: int, rows: Tensor) -> Tensor:
        clock["now"] += 10
        return step(self, number, rows)

    monkeypatch.setattr(Loop, "_step", slow)
    interrupt(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(make_task(tmp_path))
    task = make_task(tmp_path)
    train(task)
    assert task.cost.wall_s == 50


@pytest.mark.parametrize("content", [b"", b"half a file", None])
def test_a_checkpoint_that_is_no_checkpoint_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    weights, _ = train(make_task(tmp_path / "whole"))
    task = make_task(tmp_path / "damaged")
    if content is not None:
        task.checkpoint.write_bytes(content)
    assert train(task)[0] == weights
    assert "resumed" not in capsys.readouterr().err


# -- what depends on which seed -----------------------------------------------------------------


def make_loop(folder: Path, **changes: Any) -> Loop:
    """Return a loop over 50 rows in batches of 12 for 12 steps; its loss is a square."""
    model = nn.Linear(2, 1)
    passes = {"n": 50, "batch_size": 12, "root_seed": 0, "seed": 0}
    passes |= {name: changes.pop(name) for name in passes.keys() & changes.keys()}
    fields: dict[str, Any] = {
        "model": model,
        "optimiser": torch.optim.Adam(model.parameters()),
        "schedule": Schedule(0.01, 12, False),
        "step_loss": lambda rows, step: (model.weight**2).sum(),
        "passes": Passes(**passes),
        "device": CPU,
        "dtype": None,
        "checkpoint": folder / "s0.safetensors",
        "label": "thing s0",
    }
    return Loop(**(fields | changes))


def order(loop: Loop, start: int = 0) -> list[list[int]]:
    return [rows.tolist() for _, rows in loop.passes.batches(start, loop.schedule.steps)]


def test_the_order_depends_on_root_seed_repetition_and_epoch_alone(tmp_path: Path) -> None:
    first = order(make_loop(tmp_path))
    torch.manual_seed(1)
    np.random.seed(1)
    assert order(make_loop(tmp_path, model=nn.Linear(3, 1), label="other")) == first
    assert order(make_loop(tmp_path, seed=1)) != first
    assert order(make_loop(tmp_path, root_seed=1)) != first
    wider = order(make_loop(tmp_path, batch_size=24, schedule=Schedule(0.01, 6, False)))
    epochs = [[*chain(*batches)] for batches in (first[:4], wider[:2])]
    assert epochs[0] == epochs[1], "the order of an epoch changed with the size of its batches"


@pytest.mark.parametrize("start", [1, 4, 6, 11])
def test_a_resumed_run_sees_the_same_batches(tmp_path: Path, start: int) -> None:
    assert order(make_loop(tmp_path), start) == order(make_loop(tmp_path))[start:]


def test_an_epoch_shows_each_row_at_most_once_and_every_epoch_differs(tmp_path: Path) -> None:
    batches = order(make_loop(tmp_path))
    epochs = [[*chain(*batches[i : i + 4])] for i in (0, 4, 8)]
    assert all(len(epoch) == len(set(epoch)) == 48 and max(epoch) < 50 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_set_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    batches = order(make_loop(tmp_path, n=5))
    assert len(batches) == 12
    assert all(sorted(batch) == [0, 1, 2, 3, 4] for batch in batches)


def test_initial_weights_depend_on_root_seed_and_repetition_alone(tmp_path: Path) -> None:
    def weights(**changes: Any) -> Tensor:
        torch.manual_seed(len(changes))
        model = build_contrastive(make_task(tmp_path, **changes), (None, 4))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights()
    assert torch.equal(weights(rows=torch.arange(7), epochs=1, batch_size=2), first)
    assert not torch.equal(weights(seed=1), first)
    assert not torch.equal(weights(root_seed=1), first)


# -- schedule -----------------------------------------------------------------------------------


def test_constant_schedule() -> None:
    assert [Schedule(0.3, 5, False)(step) for step in range(5)] == [0.3] * 5


def test_cosine_schedule_has_its_closed_form() -> None:
    schedule = Schedule(0.4, 100, True)
    for step in range(100):
        assert schedule(step) == pytest.approx(0.4 * math.cos(math.pi * step / 200) ** 2, rel=1e-12)
    assert schedule(0) == 0.4
    assert schedule(50) == pytest.approx(0.2)


def test_warm_up_is_linear_and_then_joins_the_cosine() -> None:
    schedule = Schedule(1.0, 30, True, warmup=10)
    assert [schedule(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert schedule(10) == 1.0
    assert schedule(20) == pytest.approx(0.5)
    assert Schedule(1.0, 30, False, warmup=10)(25) == 1.0


def test_the_optimiser_gets_the_schedule_s_rates(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, schedule=Schedule(0.1, 12, True, warmup=3))
    history = loop.run()
    expected = torch.tensor([loop.schedule(step) for step in range(12)])
    assert torch.equal(history[:, 1], expected)
    assert loop.optimiser.param_groups[0]["lr"] == loop.schedule(11)


# -- losses that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(
    tmp_path: Path, save_always: None, value: float
) -> None:
    loop = make_loop(tmp_path, schedule=Schedule(0.01, 12, True))
    good = loop.step_loss
    loop.step_loss = lambda rows, step: good(rows, step) * (value if step == 7 else 1)
    with pytest.raises(UserError) as caught:
        loop.run()
    message = str(caught.value)
    assert f"thing s0: the loss is {value} at step 7 (learning rate {loop.schedule(7):.3g})" in message
    assert f"last good checkpoint: {loop.checkpoint} (step 7)" in message
    assert "Lower the learning rate" in message


def test_the_first_bad_step_of_a_group_is_named_and_nothing_is_saved(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, schedule=Schedule(0.01, 2 * CHECK_EVERY, False))
    good = loop.step_loss
    loop.step_loss = lambda rows, step: good(rows, step) * (float("nan") if step >= 3 else 1)
    with pytest.raises(UserError, match=r"at step 3 .*last good checkpoint: none yet"):
        loop.run()
    assert not loop.checkpoint.exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, save_always: None) -> None:
    """The square root's slope at zero is infinite: the loss is finite while the weights are not."""
    loop = make_loop(tmp_path)
    weight: Tensor = loop.model.weight  # type: ignore[assignment]
    loop.step_loss = lambda rows, step: (weight * (0 if step == 7 else 1)).square().sum().sqrt()
    with pytest.raises(UserError, match=r"a weight is not finite at step 7 .*\(step 7\)"):
        loop.run()


# -- NT-Xent ------------------------------------------------------------------------------------


def reference_nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Chen et al. 2020, equation 1 and algorithm 1, as written there: one pair of views at a time."""
    views = [view for pair in zip(first, second, strict=True) for view in pair]

    def similarity(i: int, j: int) -> float:
        u, v = views[i], views[j]
        return float(u @ v) / (math.sqrt(float(u @ u)) * math.sqrt(float(v @ v)))

    def loss(i: int, j: int) -> float:
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(len(views)) if k != i)
        return -math.log(math.exp(similarity(i, j) / temperature) / others)

    pairs = range(len(first))
    return sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in pairs) / len(views)


@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 2), (5, 4), (9, 7)])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_paper_s_equation(n: int, d: int, temperature: float) -> None:
    random = np.random.default_rng(n * d)
    first, second = random.normal(size=(2, n, d))
    found = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert found.item() == pytest.approx(reference_nt_xent(first, second, temperature), rel=2e-6, abs=1e-6)


def test_nt_xent_has_the_gradient_of_the_paper_s_equation() -> None:
    random = np.random.default_rng(3)
    values, step = random.normal(size=(2, 4, 3)), 1e-6
    tensor = torch.from_numpy(values).requires_grad_()
    nt_xent(tensor[0], tensor[1], 0.5).backward()  # type: ignore[no-untyped-call]
    assert tensor.grad is not None
    for place in np.ndindex(values.shape):
        moved = np.stack([values, values])
        moved[(0, *place)] += step
        moved[(1, *place)] -= step
        high, low = (reference_nt_xent(*v, 0.5) for v in moved)
        assert tensor.grad[place].item() == pytest.approx((high - low) / (2 * step), rel=1e-4, abs=1e-6)


def test_nt_xent_of_half_precision_is_computed_in_single() -> None:
    random = np.random.default_rng(3)
    first, second = (torch.from_numpy(v).bfloat16() for v in random.normal(size=(2, 6, 8)))
    loss = nt_xent(first, second, 0.05)
    assert loss.dtype == torch.float32
    expected = reference_nt_xent(first.double().numpy(), second.double().numpy(), 0.05)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


# -- augmentation -------------------------------------------------------------------------------

OFF: dict[str, Any] = {"crop_min": 1.0, "flip": False, "colour": 0.0, "greyscale": 0.0, "rotation": 0.0}
PARTS: dict[str, tuple[dict[str, Any], int]] = {
    "rotation": ({"rotation": 30.0}, 1),
    "crop": ({"crop_min": 0.2}, 3),
    "flip": ({"flip": True}, 1),
    "colour": ({"colour": 0.5}, 3),
    "brightness and contrast": ({"colour": 0.5}, 1),
    "greyscale": ({"greyscale": 0.5}, 3),
    "all, colour": ({"crop_min": 0.2, "flip": True, "colour": 1.0, "greyscale": 0.2}, 3),
    "all, grey": ({"crop_min": 0.6, "colour": 0.4, "rotation": 15.0}, 1),
}


def images_of(n: int, channels: int, size: int = 9) -> Tensor:
    """Return n random images."""
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(7))


def part(name: str) -> tuple[Callable[[Tensor], Tensor], int]:
    changes, channels = PARTS[name]
    return build_augmentation(AugmentParams(**(OFF | changes)), channels, 9), channels


@pytest.mark.parametrize("name", PARTS)
def test_every_image_of_a_batch_has_its_own_draw(name: str) -> None:
    augment, channels = part(name)
    torch.manual_seed(0)
    views = augment(images_of(1, channels).expand(32, -1, -1, -1).clone())
    distinct = len(torch.unique(views.flatten(1), dim=0))
    assert distinct >= (2 if name in ("flip", "greyscale") else 16)


@pytest.mark.parametrize("name", PARTS)
def test_the_same_seed_gives_the_same_views(name: str) -> None:
    augment, channels = part(name)
    again, _ = part(name)
    images, views = images_of(16, channels), []
    for function, seed in ((augment, 1), (again, 1), (augment, 2)):
        torch.manual_seed(seed)
        views.append(function(images.clone()))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_views_keep_shape_and_range(name: str, n: int) -> None:
    augment, channels = part(name)
    images = images_of(n, channels)
    images[0] = 0 if n % 2 else 1
    torch.manual_seed(n)
    views = augment(images.clone())
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert torch.isfinite(views).all()
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_no_augmentation_changes_nothing() -> None:
    images = images_of(5, 3)
    assert torch.equal(build_augmentation(AugmentParams(**OFF), 3, 9)(images.clone()), images)


def test_flip_and_greyscale_do_what_they_say() -> None:
    images = images_of(64, 3)
    torch.manual_seed(0)
    flipped = part("flip")[0](images[:, :1].clone())
    plain = images[:, :1]
    is_same = (flipped == plain).flatten(1).all(1)
    assert torch.equal(flipped[~is_same], plain[~is_same].flip(3))
    assert 16 < int(is_same.sum()) < 48
    grey = part("greyscale")[0](images.clone())
    is_grey = (grey == grey[:, :1]).flatten(1).all(1)
    assert 16 < int(is_grey.sum()) < 48
    assert torch.equal(grey[~is_grey], images[~is_grey])


def test_normalise_is_per_channel() -> None:
    images, mean, std = images_of(3, 2), torch.tensor([0.1, 0.2]), torch.tensor([2.0, 4.0])
    found = normalise(images, mean, std)
    for channel in range(2):
        assert torch.allclose(found[:, channel], (images[:, channel] - mean[channel]) / std[channel])


@pytest.mark.parametrize("n", [2, 3])
def test_a_batch_of_two_trains(tmp_path: Path, n: int) -> None:
    _, history = train(make_task(tmp_path, rows=torch.arange(n), batch_size=2))
    assert np.isfinite(history["loss"]).all()


# -- saved models -------------------------------------------------------------------------------


def test_a_saved_model_comes_back_in_evaluation_mode_with_the_same_outputs(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    model = build_contrastive(task, (None, 6))
    images = images_of(11, 3, 8)
    model(images)
    final = tmp_path / "train" / "thing-00000000"
    with building(final, {"spec": "", "code": ""}) as artefact:
        assert artefact is not None
        save_trained(artefact.folder(4), model, torch.zeros(2, 2))
    found = load_contrastive(final, 4, CONVNET, WIDTH, 3, 8)
    assert isinstance(found, Contrastive)
    assert not found.training
    with torch.no_grad():
        assert torch.equal(found(images), model.eval()(images))
    assert found(images).shape == (11, 6)


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    final = tmp_path / "train" / "thing-00000000"
    with building(final, {"spec": "", "code": ""}) as artefact:
        assert artefact is not None
        save_trained(artefact.folder(0), build_contrastive(make_task(tmp_path), (None, 6)), torch.zeros(2, 2))
    path = final / "s0" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        load_contrastive(final, 0, CONVNET, WIDTH, 3, 8)
