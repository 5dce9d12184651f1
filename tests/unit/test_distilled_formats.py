"""Distilled sets as others publish them: all forms give the same set, and nothing in a file is run."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from winnow.distill.engine.formats import read_pair, read_rate
from winnow.distill.engine.real import split_labels
from winnow.errors import UserError
from winnow.train.engine.synthetic import SyntheticSet

CLASSES = ("cat", "dog", "2")


def a_set() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2])


def read(path: Path, labels: Path | None = None, experiment: int = 0) -> tuple[Tensor, Tensor]:
    return read_pair(path, labels, experiment, CLASSES)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x, y: {"images": x, "labels": y},
        lambda x, y: {"Image": x, "Label": y, "lr": 0.01},
        lambda x, y: {"x": torch.nn.Parameter(x), "y": y.int()},
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: (x, y, torch.tensor(0.02)),
        lambda x, y: (x, y, torch.tensor([0.02])),
        lambda x, y: [list(x), y],
        lambda x, y: {"data": [x, y]},
        lambda x, y: {"images": x, "labels": y, "args": argparse.Namespace(ipc=2, lr=np.float32(0.1))},
        lambda x, y: {"data": [[x, y]], "accs_all_exps": {"ConvNet": [np.float64(48.9), 49.0]}},
        lambda x, y: {"data": [[list(x), y], [list(x), y]]},
        lambda x, y: {"images": x.permute(0, 2, 3, 1), "labels": y},
        lambda x, y: {"images": x.numpy(), "labels": y.numpy()},
        lambda x, y: {"images": list(x), "labels": y},
    ],
)
def test_every_shape_of_a_torch_file(tmp_path: Path, wrap: Any) -> None:
    images, labels = a_set()
    found = read(save(tmp_path / "set.pt", wrap(images, labels)))
    assert torch.equal(found[0], images) and torch.equal(found[1], labels)


def test_an_experiment_is_one_of_several(tmp_path: Path) -> None:
    images, labels = a_set()
    path = save(tmp_path / "res.pt", {"data": [[images, labels], [images + 1, labels]]})
    assert torch.equal(read(path, experiment=1)[0], images + 1)
    with pytest.raises(UserError, match="it holds 2"):
        read(path, experiment=2)


def test_labels_in_a_second_file(tmp_path: Path) -> None:
    images, _ = a_set()
    soft = torch.randn(6, 3)
    path, labels = save(tmp_path / "images_best.pt", images), save(tmp_path / "labels_best.pt", soft)
    found = read(path, labels)
    assert torch.equal(found[0], images) and torch.equal(found[1], soft)
    with pytest.raises(UserError, match="--labels FILE"):
        read(path)
    for content in (soft.tolist(), {"labels": soft.tolist()}, list(soft)):
        assert torch.allclose(read(path, save(tmp_path / "list.pt", content))[1], soft)
    one_hot = torch.eye(3, dtype=torch.int64)[[0, 0, 1, 1, 2, 2]]
    assert torch.equal(read(path, save(tmp_path / "list.pt", one_hot.tolist()))[1], one_hot)


def test_arrays(tmp_path: Path) -> None:
    images, labels = a_set()
    np.savez(tmp_path / "set.npz", images=images.numpy(), labels=labels.numpy())
    save_file({"images": images, "labels": labels}, tmp_path / "set.safetensors")
    for name in ("set.npz", "set.safetensors"):
        found = read(tmp_path / name)
        assert torch.equal(found[0], images) and torch.equal(found[1], labels)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    (tmp_path / "set" / "__MACOSX").mkdir(parents=True)
    for number, folder in enumerate(("new000", "Dog", "2", "2")):
        (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(tmp_path / "set" / folder / f"{number}.png")
    images, labels = read(tmp_path / "set")
    assert labels.tolist() == [2, 2, 1, 0], "folders in the order of their names"
    assert torch.equal(images, torch.from_numpy(pixels[[2, 3, 1, 0]]).permute(0, 3, 1, 2))
    (tmp_path / "set" / "horse").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "set" / "horse" / "x.png")
    with pytest.raises(UserError, match="horse: is no class"):
        read(tmp_path / "set")


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["set.pt", "set.npz"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    images, labels = a_set()
    path, mark = tmp_path / name, tmp_path / "mark"
    if name.endswith("pt"):
        torch.save({"images": images, "labels": labels, "more": Evil(mark)}, path)
    else:
        np.savez(path, images=np.array([Evil(mark)], dtype=object), labels=labels.numpy())
    with pytest.raises(UserError, match=r"could run code|cannot be read") as found:
        read(path)
    assert not mark.exists()
    assert "weights_only" not in str(found.value), "torch's own advice is to load it anyway"
    assert not name.endswith("pt") or "system" in str(found.value)


def test_an_evil_number_is_refused_too(tmp_path: Path) -> None:
    """NumPy's numbers are let in; one of dtype object carries any pickle."""
    mark = tmp_path / "mark"
    path = tmp_path / "set.pt"
    torch.save({"images": np.array([Evil(mark)], dtype=object), "labels": [0]}, path)
    with pytest.raises(UserError):
        read(path)
    path.write_bytes(pickle.dumps({"images": Evil(mark)}))
    with pytest.raises(UserError):
        read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.zeros(2)}, "none of"),
        ({"images": torch.zeros(0, 3, 8, 8), "labels": torch.zeros(0)}, "holds no images"),
        ({"images": torch.zeros(6, 3, 8, 8), "labels": torch.zeros(5)}, "6 images, but 5 labels"),
        ({"images": torch.zeros(6, 3), "labels": torch.zeros(6)}, "accepted: \\(n, c, h, w\\)"),
        ({"images": torch.zeros(6, 3, 8, 8).to_sparse(), "labels": torch.zeros(6)}, "sparse"),
        ({"images": [torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)], "labels": [0, 1]}, "not alike"),
    ],
)
def test_what_is_no_set_is_told(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(save(tmp_path / "set.pt", content))


def test_files_that_are_damaged_absent_or_of_another_form(tmp_path: Path) -> None:
    for name in ("cut.pt", "cut.npz", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not much")
        with pytest.raises(UserError, match="cut"):
            read(tmp_path / name)
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "none.pt")
    with pytest.raises(UserError, match="unknown form"):
        read(tmp_path / "set.tar")


def test_sets_of_grey_images_without_a_channel(tmp_path: Path) -> None:
    images, labels = a_set()
    grey = images[:, 0]
    learned = [torch.nn.Parameter(image) for image in images[:, :1]]
    for wrapped in (
        {"data": [[grey, labels], [0 * grey, labels]]},
        [grey, labels],
        [learned, labels],
        [learned, labels.tolist()],
    ):
        found = read(save(tmp_path / "set.pt", wrapped))
        assert torch.equal(found[0][:, 0], grey) and torch.equal(found[1], labels)
    for wrong in ([learned, []], [[], labels], [[]], [], [[[]]]):
        with pytest.raises(UserError, match="set"):
            read(save(tmp_path / "set.pt", wrong))


def test_labels_hard_soft_and_logits() -> None:
    hard, soft = split_labels(torch.tensor([0.0, 2.0]), 3, "here")
    assert hard.tolist() == [0, 2] and soft is None
    hard, soft = split_labels(torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]]), 3, "here")
    assert soft is not None and hard.tolist() == [1, 0] and soft[0].tolist() == pytest.approx([0.2, 0.8, 0.0])
    hard, soft = split_labels(torch.tensor([[-1.0, 3.0, 0.0]]), 3, "here")
    assert soft is not None and soft.sum().item() == pytest.approx(1) and hard.tolist() == [1]
    assert split_labels(torch.eye(3), 3, "here")[1] is None, "one-hot rows are hard labels"
    shares = torch.randn(20, 3).softmax(1)
    for stored in (shares.bfloat16(), (shares * 100).round() / 100):
        _, soft = split_labels(stored, 3, "here")
        assert soft is not None and torch.allclose(soft, shares, atol=0.02), "shares with few digits"
        assert torch.allclose(soft.sum(1), torch.ones(20))
    for wrong in (torch.tensor([0.5]), torch.tensor([3]), torch.zeros(2, 4), torch.full((1, 3), torch.nan)):
        with pytest.raises(UserError):
            split_labels(wrong, 3, "here")


def test_a_set_of_ours_survives_being_written(tmp_path: Path) -> None:
    images, labels = a_set()
    soft = torch.randn(6, 3).softmax(1)
    SyntheticSet(images, labels, soft, 0.03).save(tmp_path / "synthetic.safetensors")
    found = SyntheticSet.load(tmp_path / "synthetic.safetensors")
    assert torch.equal(found.images, images) and torch.equal(found.labels, labels)
    assert found.soft is not None and torch.equal(found.soft, soft)
    assert found.step_size == pytest.approx(0.03)
    assert found.bytes_of_labels == 6 * 8 + 6 * 3 * 4
    assert torch.equal(read(tmp_path / "synthetic.safetensors")[1], soft), "ranked with what it learned"
    assert read_rate(tmp_path / "synthetic.safetensors") == pytest.approx(0.03)


@pytest.mark.parametrize(
    "content",
    [
        torch.tensor(0.02),
        torch.nn.Parameter(torch.tensor([0.02])),
        0.02,
        {"images": torch.zeros(2, 3, 8, 8), "syn_lr": torch.tensor(0.02)},
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), torch.tensor(0.02)),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), torch.tensor([0.02])),
    ],
)
def test_a_learned_step_size_in_each_form(tmp_path: Path, content: Any) -> None:
    assert read_rate(save(tmp_path / "lr_best.pt", content)) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.zeros(3), "no learned step size"),
        ({"images": torch.zeros(1)}, "no learned step size"),
        ({"lr": None}, "no learned step size"),
        (torch.tensor(-0.1), "none to train with"),
        (torch.tensor(float("nan")), "none to train with"),
    ],
)
def test_what_is_no_step_size_is_refused(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_rate(save(tmp_path / "lr.pt", content))
