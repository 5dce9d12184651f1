"""Supervised training: learning, exact resume, steps, losses, augmentation, SAM, averages, dynamics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks import bench_training
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from winnow import registry
from winnow.errors import UserError
from winnow.store import Cost, building
from winnow.train.engine.average import Average
from winnow.train.engine.classifier import Classifier, build_classifier, load_classifier, predict
from winnow.train.engine.crops import random_crops, reflected
from winnow.train.engine.device import algorithms
from winnow.train.engine.dynamics import Dynamics
from winnow.train.engine.loop import Loop, Passes, Schedule
from winnow.train.engine.losses import cross_entropy, mixup
from winnow.train.engine.sharpness import SAM, frozen_statistics
from winnow.train.engine.space import normalise
from winnow.train.engine.task import Task

CPU = torch.device("cpu")
SUPERVISED = registry.load("train", "supervised", "test")
MLP = registry.load("models", "mlp", "test")
CONVNET = registry.load("models", "convnet", "test")
NORMED = CONVNET.params(depth=2, width=8, norm="batch")
PLAIN: dict[str, Any] = {"precision": "fp32", "crop": 0, "flip": False, "lr": 0.05, "schedule": "constant"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums have one order only on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def digits() -> tuple[Tensor, Tensor]:
    """Return 8 x 8 grey images of handwritten digits and their labels."""
    data = load_digits()
    images = torch.from_numpy((data.images * 15).astype(np.uint8))[:, :, :, None]
    return images.permute(0, 3, 1, 2), torch.from_numpy(data.target).long()


IMAGES, LABELS = digits()


def make_task(folder: Path, **changes: Any) -> Task:
    """Return a task on 60 digits: 4 epochs of 5 batches of 13 and, the last one, 8."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "images": IMAGES[:70],
        "labels": LABELS[:70],
        "rows": torch.arange(5, 65),
        "weights": None,
        "captions": list,
        "rounds": 1,
        "mean": torch.tensor([0.3]),
        "std": torch.tensor([0.4]),
        "classes": 10,
        "class_names": (),
        "model": CONVNET,
        "model_params": NORMED,
        "epochs": 4,
        "steps_as": None,
        "min_steps": 0,
        "batch_size": 13,
        "root_seed": 0,
        "seed": 0,
        "context": (),
        "device": CPU,
        "checkpoint": folder / "s0.safetensors",
        "out": folder / "out",
        "label": "thing s0",
        "cost": Cost(),
        "heldout": lambda: {"test": IMAGES[-30:]},
        "scoring": Cost(),
    }
    return Task(**(fields | changes))


def train(task: Task, **params: Any) -> dict[str, np.ndarray]:
    """Train and return every array that was written, by name."""
    SUPERVISED.function(SUPERVISED.params(**(PLAIN | params)), task)
    history = pd.read_parquet(task.out / "history.parquet")
    arrays = {f"weights.{k}": v.numpy() for k, v in load_file(task.out / "model.safetensors").items()}
    arrays |= {path.stem: np.load(path) for path in task.out.rglob("*.npy")}
    return arrays | {"losses": history["loss"].to_numpy(), "rates": history["learning_rate"].to_numpy()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compare bit by bit, but for NaN."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


# -- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"optimiser": "sgd", "schedule": "cosine", "warmup": 0.1},
        {"optimiser": "sam", "precision": "bf16"},
        {"optimiser": "asam", "label_smoothing": 0.1, "crop": 1},
        {"optimiser": "adamw", "lr": 0.005, "mixup": 0.2, "ema": 0.99},
    ],
)
def test_it_learns_digits(tmp_path: Path, params: dict[str, Any]) -> None:
    task = make_task(
        tmp_path, images=IMAGES, labels=LABELS, rows=torch.arange(1000), batch_size=50, model=MLP,
        model_params=MLP.params(width=48), epochs=6, heldout=lambda: {"test": IMAGES[1400:]},
    )  # fmt: skip
    logits = train(task, **params)["test_logits"]
    assert logits.shape == (397, 10) and logits.dtype == np.float32
    assert np.mean(logits.argmax(1) == LABELS[1400:].numpy()) > 0.85


# -- exact resume, determinism ------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "sgd, average, dynamics": {"ema": 0.9, "record": True, "crop": 2, "flip": True, "schedule": "cosine"},
    "sam, dynamics": {"optimiser": "sam", "record": True, "crop": 1},
    "asam": {"optimiser": "asam", "rho": 1.0, "schedule": "step"},
    "adamw, average, mixup": {"optimiser": "adamw", "lr": 1e-3, "ema": 0.99, "mixup": 0.3},
    "until the error slows": {"until": "error_slows", "slow": 0.6, "lr": 0.01},
}


@pytest.mark.parametrize(("name", "at"), [*((name, 9) for name in RUNS), ("sam, dynamics", 19)])
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    whole = train(make_task(tmp_path / "whole"), **RUNS[name])
    step = Loop._step

    def broken(self: Loop, number: int, rows: Tensor) -> Tensor:
        if number == at:
            raise KeyboardInterrupt
        return step(self, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_due", lambda self: True)
        patch.setattr(Loop, "_step", broken)
        with pytest.raises(KeyboardInterrupt):
            train(make_task(tmp_path / "cut"), **RUNS[name])
    torch.manual_seed(987)
    assert_same(train(make_task(tmp_path / "cut"), **RUNS[name]), whole)


@pytest.mark.parametrize("name", RUNS)
def test_the_same_seeds_give_the_same_bits_and_others_do_not(tmp_path: Path, name: str) -> None:
    first = train(make_task(tmp_path / "a"), **RUNS[name])
    assert_same(train(make_task(tmp_path / "b"), deterministic=True, **RUNS[name]), first)


@pytest.mark.parametrize("change", [{"seed": 1}, {"root_seed": 1}, {"context": ("proxy", 0)}])
def test_other_seeds_give_other_weights_orders_and_crops(tmp_path: Path, change: dict[str, Any]) -> None:
    tasks = make_task(tmp_path), make_task(tmp_path, **change)
    first, second = (Passes.of(task, drop_last=False) for task in tasks)
    assert first.order(0).tolist() != second.order(0).tolist()
    assert first.augmentation_seed(0) != second.augmentation_seed(0)
    assert not torch.equal(*(build_classifier(task).head.weight for task in tasks))


def test_deterministic_algorithms_are_on_within_the_block_alone() -> None:
    before = torch.backends.cudnn.benchmark
    with algorithms(deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == before


# -- steps, epochs, rounds ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 20),
        ({"epochs": 3}, 15),
        ({"rows": torch.arange(26)}, 8),
        ({"rows": torch.arange(27)}, 8),
        ({"rows": torch.arange(28)}, 12),
        ({"rows": torch.arange(26), "steps_as": 60}, 20),
        ({"rows": torch.arange(5), "epochs": 2, "min_steps": 7}, 7),
        ({"rows": torch.arange(60), "rounds": 3}, 8),
    ],
)
def test_the_number_of_steps_is_exact(tmp_path: Path, changes: dict[str, Any], steps: int) -> None:
    assert len(train(make_task(tmp_path, **changes))["losses"]) == steps


def shown(passes: Passes, steps: int) -> list[list[int]]:
    return [rows.tolist() for _, rows in passes.batches(0, steps)]


@pytest.mark.parametrize(
    ("n", "sizes"), [(60, [12, 12, 12, 12, 12]), (54, [10, 11, 11, 11, 11]), (13, [13]), (7, [7])]
)
def test_every_row_is_shown_once_an_epoch_in_batches_as_equal_as_can_be(n: int, sizes: list[int]) -> None:
    batches = shown(Passes(n, 13, 0, 0, drop_last=False), 2 * len(sizes))
    assert [len(batch) for batch in batches] == 2 * sizes
    for epoch in (batches[: len(sizes)], batches[len(sizes) :]):
        assert sorted([*chain(*epoch)]) == list(range(n))


def test_a_lone_last_example_joins_the_batch_before_it(tmp_path: Path) -> None:
    passes = Passes(27, 13, 0, 0, drop_last=False)
    assert [len(batch) for batch in shown(passes, 4)] == [13, 14, 13, 14]
    assert np.isfinite(train(make_task(tmp_path, rows=torch.arange(27)))["losses"]).all()


def test_epochs_take_the_rounds_in_turn() -> None:
    passes = Passes(60, 8, 0, 0, rounds=3, drop_last=False)
    batches = shown(passes, 3 * 4)
    for epoch in range(4):
        first = epoch % 3 * 20
        assert sorted([*chain(*batches[3 * epoch : 3 * epoch + 3])]) == list(range(first, first + 20))


def test_step_decay_and_cosine_reach_their_rates(tmp_path: Path) -> None:
    rates = train(make_task(tmp_path / "a"), schedule="step", lr=0.4, milestones=[0.5, 0.75])["rates"]
    assert rates == pytest.approx([0.4] * 10 + [0.04] * 5 + [0.004] * 5)
    rates = train(make_task(tmp_path / "b"), schedule="cosine", lr=0.4, warmup=0.2)["rates"]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * i / 16)) for i in range(16)])
    assert Schedule(1.0, 9, False, milestones=(0,), decay=0.5)(0) == 0.5


# -- loss ---------------------------------------------------------------------------------------


def test_a_doubled_example_counts_like_weight_two(tmp_path: Path) -> None:
    """In full batches, without batch norm: the released loss sum w l / sum w."""
    common = {"model": MLP, "model_params": MLP.params(width=16), "batch_size": 100}
    doubled = make_task(tmp_path / "a", rows=torch.tensor([*range(40), *range(10)]), **common)
    weights = torch.ones(40)
    weights[:10] = 2
    weighted = make_task(tmp_path / "b", rows=torch.arange(40), weights=weights, **common)
    plain = make_task(tmp_path / "c", rows=torch.arange(40), **common)
    expected = train(doubled)["test_logits"]
    assert train(weighted)["test_logits"] == pytest.approx(expected, abs=2e-5)
    assert np.abs(train(plain)["test_logits"] - expected).max() > 1e-3


def test_examples_of_weight_zero_change_nothing(tmp_path: Path) -> None:
    common = {"model": MLP, "model_params": MLP.params(width=16), "batch_size": 100}
    weights = (torch.arange(40) < 30).float()
    found = train(make_task(tmp_path / "a", rows=torch.arange(40), weights=weights, **common))
    expected = train(make_task(tmp_path / "b", rows=torch.arange(30), **common))
    assert found["test_logits"] == pytest.approx(expected["test_logits"], abs=2e-5)
    nothing = train(make_task(tmp_path / "c", weights=torch.zeros(60), **common))
    assert (nothing["losses"] == 0).all() and np.isfinite(nothing["test_logits"]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_loss_is_its_formula(smoothing: float) -> None:
    random = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(6, 4, generator=random), torch.tensor([0, 3, 2, 2, 1, 0])
    weights = torch.tensor([1.0, 0.0, 2.5, 1.0, 0.1, 3.0])
    target = (1 - smoothing) * np.eye(4)[labels.numpy()] + smoothing / 4
    probabilities = np.exp(logits.double().numpy())
    probabilities /= probabilities.sum(1, keepdims=True)
    losses = -(target * np.log(probabilities)).sum(1)
    assert cross_entropy(logits, labels, None, smoothing).item() == pytest.approx(losses.mean(), rel=1e-5)
    expected = (weights.numpy() * losses).sum() / weights.numpy().sum()
    assert cross_entropy(logits, labels, weights, smoothing).item() == pytest.approx(expected, rel=1e-5)


def test_mixup_mixes_images_with_their_partners() -> None:
    images = torch.rand(20, 1, 4, 4)
    shares = []
    for seed in range(200):
        torch.manual_seed(seed)
        mixed, partner, share = mixup(images, 0.4)
        assert sorted(partner.tolist()) == list(range(20))
        assert torch.allclose(mixed, share * images + (1 - share) * images[partner], atol=1e-6)
        shares.append(share)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.2)


def test_mixup_trains_on_mixed_targets(tmp_path: Path) -> None:
    """The first step's loss, by hand: cross-entropy with the mixed one-hot targets."""
    task = make_task(tmp_path, batch_size=60, epochs=1)
    passes = Passes.of(task, drop_last=False)
    rows = torch.from_numpy(passes.order(0))
    torch.manual_seed(passes.augmentation_seed(0))
    pixels = task.pixels[task.rows[rows]].float() / 255
    mixed, partner, share = mixup(normalise(pixels, task.mean, task.std), 0.5)
    onehot = torch.eye(10)[task.labels[task.rows[rows]]]
    targets = share * onehot + (1 - share) * onehot[partner]
    expected = functional.cross_entropy(build_classifier(task)(mixed), targets, label_smoothing=0.2)
    assert 0.01 < share < 0.99
    assert train(task, mixup=0.5, label_smoothing=0.2)["losses"][0] == pytest.approx(
        expected.item(), rel=1e-5
    )


# -- augmentation -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "flip"), [(0, True), (3, False), (2, True), (6, True)])
def test_crops_are_what_a_loop_over_images_gives(channels: int, padding: int, flip: bool) -> None:
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (9, 7, 8, channels), dtype=np.uint8)
    chosen = torch.tensor([3, 3, 8, 0, 1, 2, 3, 4, 5, 6])
    torch.manual_seed(5)
    found = random_crops(torch.from_numpy(images).permute(0, 3, 1, 2), chosen, padding, flip)
    torch.manual_seed(5)
    down, right = torch.randint(-padding, padding + 1, (2, 10, 1)).numpy()
    mirrored = (torch.rand(10, 1) < 0.5).numpy()
    for i, position in enumerate(chosen):
        padded = np.pad(images[position], ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        top, left = padding + int(down[i, 0]), padding + int(right[i, 0])
        expected = padded[top : top + 7, left : left + 8]
        if flip and mirrored[i, 0]:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(found[i].permute(1, 2, 0).numpy(), expected)
    assert found.dtype == torch.uint8
    assert 2 <= int(mirrored.sum()) <= 8


def test_all_shifts_and_both_sides_occur() -> None:
    images = torch.arange(49, dtype=torch.uint8).reshape(1, 1, 7, 7)
    torch.manual_seed(0)
    crops = random_crops(images, torch.zeros(2000, dtype=torch.int64), 2, True)
    assert len(torch.unique(crops.flatten(1), dim=0)) == 5 * 5 * 2


def test_no_crop_and_no_flip_change_nothing() -> None:
    chosen = torch.tensor([4, 1, 1])
    assert torch.equal(random_crops(IMAGES, chosen, 0, False), IMAGES[chosen])


def test_reflection_matches_numpy() -> None:
    for size in (2, 3, 8):
        expected = np.pad(np.arange(size), size - 1, mode="reflect")
        assert reflected(torch.arange(1 - size, 2 * size - 1), size).tolist() == expected.tolist()


# -- SAM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sam", "asam"])
def test_rho_zero_is_the_wrapped_optimiser(tmp_path: Path, optimiser: str) -> None:
    """Weights, batch norm's running statistics, dynamics: all bits."""
    expected = train(make_task(tmp_path / "a"), record=True, crop=2)
    found = train(make_task(tmp_path / "b"), record=True, crop=2, optimiser=optimiser, rho=0.0)
    assert_same(found, expected)
    assert not np.array_equal(
        train(make_task(tmp_path / "c"), crop=2, optimiser=optimiser)["test_logits"], expected["test_logits"]
    )


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_step_is_the_paper_s(adaptive: bool) -> None:
    """On f(w) = (w' A w) / 2 by hand: w - lr A (w + e), e = rho T^2 g / |T g|."""
    a = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    model = nn.Linear(2, 1, bias=False)
    start, lr, rho = torch.tensor([0.5, -1.5]), 0.1, 0.3
    model.weight.data.copy_(start)
    optimiser = SAM(torch.optim.SGD(model.parameters(), lr=lr), model, rho, adaptive)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = model.weight[0] @ a @ model.weight[0] / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    loss = optimiser.step(closure)
    assert loss.item() == pytest.approx((start @ a @ start / 2).item())
    gradient, t = a @ start, start.abs() + 0.01 if adaptive else torch.ones(2)
    climb = rho * t**2 * gradient / (t * gradient).norm()
    assert torch.allclose(model.weight.data[0], start - lr * a @ (start + climb), atol=1e-6)


def test_gsam_takes_off_the_orthogonal_part_of_the_first_gradient() -> None:
    """By hand on f(w) = (w' A w) / 2: g_p - alpha (g - (g . g_p / |g_p|^2) g_p)."""
    a = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    model = nn.Linear(2, 1, bias=False)
    start, lr, rho, alpha = torch.tensor([0.5, -1.5]), 0.1, 0.3, 0.4
    model.weight.data.copy_(start)
    optimiser = SAM(torch.optim.SGD(model.parameters(), lr=lr), model, rho, alpha=alpha)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = model.weight[0] @ a @ model.weight[0] / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimiser.step(closure)
    first = a @ start
    second = a @ (start + rho * first / first.norm())
    orthogonal = first - (first @ second) / (second @ second) * second
    assert abs(float(orthogonal @ second)) < 1e-5
    assert torch.allclose(model.weight.data[0], start - lr * (second - alpha * orthogonal), atol=1e-6)


def test_batch_norm_follows_the_first_pass_alone() -> None:
    norm = nn.BatchNorm1d(3)
    batch = torch.rand(8, 3)
    with frozen_statistics(norm):
        frozen = norm(batch)
    assert norm.num_batches_tracked == 0 and torch.equal(norm.running_mean, torch.zeros(3))
    assert torch.equal(frozen, norm(batch)), "frozen statistics must not change the outputs"
    assert norm.num_batches_tracked == 1


def test_sam_s_dynamics_are_those_of_the_unperturbed_weights(tmp_path: Path) -> None:
    """In the first step both optimisers stand at the initial weights."""
    task = {"batch_size": 60, "epochs": 1}
    expected = train(make_task(tmp_path / "a", **task), record=True)
    found = train(make_task(tmp_path / "b", **task), record=True, optimiser="sam", rho=5.0)
    np.testing.assert_array_equal(found["loss"], expected["loss"])


# -- averages -----------------------------------------------------------------------------------


def test_the_average_is_its_recursion() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, random = Average(model, 0.3), torch.Generator().manual_seed(0)
    expected = model[0].weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            model[0].weight.copy_(torch.randn(2, 2, generator=random))
            model[1].num_batches_tracked.add_(1)
        average.update(step)
        keep = min(0.3, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * model[0].weight.detach()
    assert torch.allclose(average.values["0.weight"], expected)
    assert average.values["1.num_batches_tracked"] == 5


def test_what_is_saved_and_tested_is_the_average(tmp_path: Path) -> None:
    plain, averaged = (train(make_task(tmp_path / str(ema)), ema=ema) for ema in (0.0, 0.9))
    np.testing.assert_array_equal(averaged["losses"], plain["losses"])
    assert not np.array_equal(averaged["weights.head.weight"], plain["weights.head.weight"])
    assert not np.array_equal(averaged["test_logits"], plain["test_logits"])


# -- dynamics -----------------------------------------------------------------------------------


def test_dynamics_are_losses_and_margins_of_the_training_passes(tmp_path: Path) -> None:
    """With a learning rate near zero and no batch norm every epoch sees the initial model."""
    task = make_task(tmp_path, model=MLP, model_params=MLP.params(width=16), rows=torch.arange(70))
    logits = predict(build_classifier(task), IMAGES[:70], task.space, None)
    found = train(task, record=True, lr=1e-30, weight_decay=0.0)
    losses = functional.cross_entropy(logits, LABELS[:70], reduction="none").numpy()
    others = logits.clone()
    others[torch.arange(70), LABELS[:70]] = -math.inf
    margins = (logits[torch.arange(70), LABELS[:70]] - others.amax(1)).numpy()
    assert found["loss"].shape == found["margin"].shape == found["correct"].shape == (70, 4)
    for epoch in range(4):
        assert found["loss"][:, epoch] == pytest.approx(losses, abs=1e-5)
        assert found["margin"][:, epoch] == pytest.approx(margins, abs=1e-5)
        assert (found["correct"][:, epoch] == (logits.argmax(1) == LABELS[:70]).numpy()).all()
    assert found["loss"].dtype == np.float32 and found["correct"].dtype == np.uint8


def test_examples_outside_the_subset_or_the_epoch_are_nan(tmp_path: Path) -> None:
    found = train(make_task(tmp_path / "a"), record=True)
    unseen = np.isnan(found["loss"])
    assert unseen[:5].all() and unseen[65:].all() and not unseen[5:65].any()
    assert (found["correct"][unseen] == 0).all()
    rounds = train(make_task(tmp_path / "b", rows=torch.arange(60), rounds=3), record=True)
    seen = ~np.isnan(rounds["margin"])
    assert [np.flatnonzero(seen[:, epoch]).tolist() for epoch in range(4)] == [
        list(range(20 * part, 20 * part + 20)) for part in (0, 1, 2, 0)
    ]
    cut = train(make_task(tmp_path / "c", steps_as=27, epochs=4), record=True)
    assert (~np.isnan(cut["loss"])).sum(0).tolist() == [60, 36]


def test_of_a_repeated_example_the_last_showing_counts(tmp_path: Path) -> None:
    rows = np.array([3, 1, 3, 3, 1, 0])
    passes = Passes(6, 4, 0, 0, drop_last=False)
    dynamics, expected = Dynamics(passes, 3, CPU), np.full((5, 2), np.nan)
    for step, batch in passes.batches(0, 3):
        logits = torch.tensor([[10.0 * step + i, 0.0] for i in range(len(batch))])
        dynamics.record(step, logits, torch.zeros(len(batch), dtype=torch.int64))
        for i, row in enumerate(batch.tolist()):
            expected[rows[row], step // 2] = 10 * step + i
    dynamics.save(tmp_path / "dynamics", rows, 5)
    np.testing.assert_array_equal(np.load(tmp_path / "dynamics" / "margin.npy"), expected)


def test_the_mean_of_a_batch_s_recorded_losses_is_its_loss(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    found = train(task, record=True, crop=2, flip=True)
    passes = Passes.of(task, drop_last=False)
    for step, rows in passes.batches(0, 20):
        recorded = found["loss"][task.rows[rows].numpy(), passes.place(step)[0]]
        assert recorded.mean() == pytest.approx(found["losses"][step], rel=1e-5)


def test_recording_changes_nothing(tmp_path: Path) -> None:
    plain, recorded = (train(make_task(tmp_path / str(r)), record=r, crop=2) for r in (False, True))
    assert_same({name: recorded[name] for name in plain}, plain)


def test_permuting_the_pool_permutes_the_dynamics(tmp_path: Path) -> None:
    order = torch.from_numpy(np.random.default_rng(0).permutation(70))
    rows = torch.argsort(order)[torch.arange(5, 65)]
    first = train(make_task(tmp_path / "a"), record=True, crop=2)
    moved = make_task(tmp_path / "b", images=IMAGES[:70][order], labels=LABELS[:70][order], rows=rows)
    second = train(moved, record=True, crop=2)
    for name in ("loss", "margin", "correct"):
        np.testing.assert_array_equal(second[name], first[name][order.numpy()])


# -- saved models, mistakes ---------------------------------------------------------------------


def test_a_saved_model_comes_back_with_the_test_logits(tmp_path: Path) -> None:
    final = tmp_path / "train" / "thing-00000000"
    with building(final, {"spec": "", "code": ""}) as artefact:
        assert artefact is not None
        task = make_task(tmp_path, out=artefact.folder(4))
        logits = train(task)["test_logits"]
    found = load_classifier(final, 4, CONVNET, NORMED, 1, 8)
    assert isinstance(found, Classifier) and not found.training
    assert torch.equal(predict(found, IMAGES[-30:], task.space, None), torch.from_numpy(logits))


def test_logits_are_float32_in_low_precision(tmp_path: Path) -> None:
    model = build_classifier(make_task(tmp_path)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(200, 1, 8, 8))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thing s0: crop 8 .* accepted: 0 to 7"):
        train(make_task(tmp_path), crop=8)
    with pytest.raises(UserError, match="some examples have no label"):
        train(make_task(tmp_path, labels=torch.full((70,), -1)))
    with pytest.raises(ValueError, match="set mixup: 0"):
        SUPERVISED.params(record=True, mixup=0.1)
    with pytest.raises(ValueError, match="set nesterov: false"):
        SUPERVISED.params(momentum=0.0)


def test_the_mlp_has_depth_and_width() -> None:
    network = MLP.function(MLP.params(depth=3, width=7), 2, 5)
    assert [m.weight.shape for m in network if isinstance(m, nn.Linear)] == [(7, 50), (7, 7), (7, 7)]
    assert network(torch.rand(4, 2, 5, 5)).shape == (4, 7)


def test_the_benchmark_of_trainings_goes_with_them(tmp_path: Path) -> None:
    """It builds tasks of its own, which no other test would miss."""
    small = registry.load("models", "cifar_resnet", "test")
    params = small.params(depth=8, width=4, stem_stride=2)
    task = bench_training.make_task(str(tmp_path), *bench_training.noise(2), model=small, model_params=params)
    assert len(bench_training.our_loop(task, record=True)) == 2


# -- ending where the error falls slowly -----------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "share", "epoch"),
    [
        ([90, 50, 30, 20, 17, 16], 0.1, 4),
        ([90, 50, 30, 20, 17, 16], 0.25, 3),
        ([90, 50, 30, 20, 17, 16], 0.0, None),
        ([90, 80, 50, 40, 38, 30], 0.1, 4),
        ([90, 50, 50, 20], 0.0, 2),
        ([90, 95, 20, 10], 0.1, 1),
        ([90], 0.5, None),
    ],
)
def test_the_rule_finds_the_first_epoch_that_falls_slowly(
    errors: list[int], share: float, epoch: int | None
) -> None:
    """errors: of 100 examples, in each epoch."""
    dynamics = Dynamics(Passes(100, 100, 0, 0, drop_last=False), len(errors), CPU)
    for step, wrong in enumerate(errors):
        logits = torch.zeros(100, 2)
        logits[:, 0] = torch.where(torch.arange(100) < wrong, -1.0, 1.0)
        dynamics.record(step, logits, torch.zeros(100, dtype=torch.int64))
    found = [step for step in range(len(errors)) if dynamics.slows_at(step, share)]
    assert (found[0] if found else None) == epoch


LONG: dict[str, Any] = {
    "images": IMAGES[:400],
    "labels": LABELS[:400],
    "rows": torch.arange(400),
    "epochs": 12,
}


def test_a_run_ends_with_the_epoch_whose_error_falls_slowly(tmp_path: Path) -> None:
    """It is the run of as many epochs, and what it recorded of them is the beginning of the long run's."""
    whole = train(make_task(tmp_path / "whole", **LONG), record=True, lr=0.02)
    errors = 1 - whole["correct"].mean(0, dtype=float)
    falls = -np.diff(errors)
    epochs = 2 + next(i for i, fall in enumerate(falls) if fall <= 0.1 * max(0, *falls[: i + 1]))
    assert 2 < epochs < 12
    ended = train(make_task(tmp_path / "ended", **LONG), record=True, lr=0.02, until="error_slows")
    short = train(make_task(tmp_path / "short", **(LONG | {"epochs": epochs})), record=True, lr=0.02)
    assert_same(ended, short)
    np.testing.assert_array_equal(ended["correct"], whole["correct"][:, :epochs])
    again = train(make_task(tmp_path / "ended", **LONG), record=True, lr=0.02, until="error_slows")
    assert_same(again, ended)
    unrecorded = train(make_task(tmp_path / "plain", **LONG), lr=0.02, until="error_slows")
    assert_same(unrecorded, {name: ended[name] for name in unrecorded})


def test_an_end_by_the_error_takes_no_mixup() -> None:
    with pytest.raises(ValueError, match="mixup"):
        SUPERVISED.params(until="error_slows", mixup=0.2)
