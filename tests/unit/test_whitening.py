"""ZCA whitening: its formula, what is whitened and what is not, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_distill_plan import ROOT, planned
from test_supervised import make_task
from torchvision.transforms import ToTensor

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.data.prepare import prepare
from winnow.data.whitening import whitening_of, zca
from winnow.distill.engine.real import RealData
from winnow.errors import UserError
from winnow.plan.catalogue import load_catalogue
from winnow.plan.plan import Plan
from winnow.plan.specs import DistillSpec, PrepareSpec, SelectSpec, SignalSpec, TrainSpec
from winnow.stage import Job
from winnow.store import building, read_json
from winnow.train.engine.run import train_all
from winnow.train.engine.sets import examples_of
from winnow.train.engine.space import Space
from winnow.train.engine.synthetic import SyntheticSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The digits, prepared plain and whitened."""
    entry, found = load_catalogue(ROOT / "datasets.yaml")["digits"], {}
    for seen in ("plain", "zca"):
        out = tmp_path_factory.mktemp(seen)
        prepare(entry, {}, out, whitened=seen == "zca")
        found[seen] = Dataset.open(out)
    return found


def correlated(n: int, channels: int = 3, size: int = 4) -> np.ndarray:
    """Return (n, size, size, channels) uint8 images whose neighbouring pixels go together."""
    random = np.random.default_rng(0)
    waves = random.normal(size=(n, size, size, channels)).cumsum(1).cumsum(2)
    return np.clip(128 + 25 * waves, 0, 255).astype(np.uint8)


# -- the formula --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [30, 200, 3000])
def test_the_matrix_is_that_of_the_code_that_released_sets_were_made_with(n: int) -> None:
    from kornia.enhance import ZCAWhitening

    """They fit it on what `ToTensor` gives, without the normalisation that other images get."""
    images = correlated(n)
    found = whitening_of(images)
    theirs = ZCAWhitening(eps=0.1)
    seen = torch.stack([ToTensor()(image) for image in images])
    theirs.fit(seen.double())
    np.testing.assert_allclose(found[:-1], theirs.transform_matrix.numpy(), atol=2e-5)
    np.testing.assert_allclose(found[-1], theirs.mean_vector[0].numpy(), atol=1e-6)
    space = Space.whitened(torch.from_numpy(found[:-1]), torch.from_numpy(found[-1]), 3)
    pixels = torch.from_numpy(images[:50]).permute(0, 3, 1, 2)
    expected = theirs(seen[:50].double()).float()
    assert torch.allclose(space(pixels), expected, atol=1e-4)
    assert torch.allclose(space(pixels.float() / 255), expected, atol=1e-4)


def test_whitened_training_images_have_unit_covariance_up_to_what_is_added(
    digits: dict[str, Dataset],
) -> None:
    data = digits["zca"]
    pixels = torch.from_numpy(np.array(data.pool_images())).permute(0, 3, 1, 2)
    before = torch.cov(pixels.flatten(1).double().T / 255)
    seen = Space.of(data, CPU)(pixels).flatten(1).double()
    after = torch.cov(seen.T)
    assert torch.allclose(after, before @ torch.linalg.inv(before + 0.1 * torch.eye(64)), atol=1e-4)
    assert float(seen.mean(0).abs().max()) < 1e-4
    large = torch.linalg.eigvalsh(before) > 0.5
    assert bool((torch.linalg.eigvalsh(after)[large] > 0.83).all()) and large.any()


def test_pixels_that_never_change_do_no_harm() -> None:
    rows = np.ones((20, 3), np.float32)
    rows[:, 0] = np.arange(20)
    matrix, mean = zca(lambda part: rows[part], 20)
    assert np.isfinite(matrix).all()
    assert mean.tolist() == [9.5, 1, 1]
    assert matrix[1, 1] == pytest.approx(0.1**-0.5)


def test_pictures_are_the_pixels_that_networks_were_shown(digits: dict[str, Dataset]) -> None:
    for data in digits.values():
        pixels = torch.from_numpy(np.array(data.images("test"))[:24]).permute(0, 3, 1, 2)
        space = Space.of(data, CPU)
        seen = space(pixels)
        assert torch.allclose(space.picture(seen), pixels.float() / 255, atol=1e-5)
        assert space.picture(seen.reshape(2, 12, 1, 8, 8)).shape == (2, 12, 1, 8, 8)
        assert 0 <= float(space.picture(9 * seen).min()) <= float(space.picture(9 * seen).max()) <= 1


# -- what is whitened ---------------------------------------------------------------------------


def test_only_data_that_were_prepared_so_are_whitened(digits: dict[str, Dataset]) -> None:
    assert digits["plain"].whitening() is None
    assert Space.of(digits["plain"], CPU).whitening is None
    assert Space.plain(digits["zca"], CPU).whitening is None
    found = digits["zca"].whitening()
    assert found is not None and found.shape == (65, 64) and found.dtype == np.float32
    assert (digits["zca"].mean, digits["zca"].std) == (digits["plain"].mean, digits["plain"].std)


def test_ranking_sees_whitened_data_as_networks_did(digits: dict[str, Dataset]) -> None:
    real = RealData.of(digits["zca"], "published", False)
    pixels = torch.from_numpy(np.array(digits["zca"].images("test"))).permute(0, 3, 1, 2)
    assert torch.equal(real.test.images, Space.of(digits["zca"], CPU)(pixels))


def test_training_on_real_images_is_training_on_whitened_ones(
    tmp_path: Path, digits: dict[str, Dataset]
) -> None:
    """By pixels and whitening, or by a set that holds the whitened images: the same weights and logits."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    space, data = Space.of(digits["zca"], CPU), digits["zca"]
    model = registry.load("models", "mlp", "test")
    pixels, labels = (
        torch.from_numpy(np.array(part))[:40] for part in (data.images("train"), data.labels("train"))
    )
    pixels = pixels.permute(0, 3, 1, 2)
    shared: dict[str, Any] = {
        "images": pixels, "labels": labels, "rows": torch.arange(40), "mean": space.mean, "std": space.std,
        "model": model, "model_params": model.params(width=8), "epochs": 2, "batch_size": 16,
        "heldout": lambda: {"test": pixels[:5]}, "whitening": space.whitening,
    }  # fmt: skip
    plugin, written = registry.load("train", "distilled", "test"), []
    for name, own in {"a": {}, "b": {"synthetic": SyntheticSet(space(pixels), labels)}}.items():
        task = replace(make_task(tmp_path / name), **(shared | own))
        assert torch.equal(examples_of(task).images, space(pixels))
        plugin.function(plugin.params(augment="", precision="fp32"), task)
        written.append(
            (task.out / "model.safetensors").read_bytes() + (task.out / "test_logits.npy").read_bytes()
        )
    assert written[0] == written[1]


def whole_plan(tmp_path: Path, suite: str = "distillation", **changes: Any) -> Plan:
    if suite == "distillation":  # no arm may ask a teacher, which sees plain images
        arms = ("stratified_taught", "rded", "sre2l")
        asks_none: dict[str, Any] = {f"arms__{name}__training": {} for name in arms}
        asks_none |= {"arms__rded__method": "dc", "arms__sre2l__method": "dc", "scale__methods": {}}
        changes = asks_none | changes
    return planned(tmp_path, suite, scale__inputs="zca", **changes)


def test_a_whitened_grid_shares_nothing_with_a_plain_one_but_its_definition(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = planned(tmp_path / "a", "distillation", scale__inputs="plain").graph.nodes
    assert set(plain) == set(planned_default(tmp_path / "b"))
    nodes = whole_plan(tmp_path).graph.nodes
    assert not set(nodes) & set(plain)
    (data,) = (node.spec for node in nodes.values() if isinstance(node.spec, PrepareSpec))
    assert data.seen == "zca" and data.slug() == "digits-zca"
    assert '"seen":"zca"' in data.json_text()
    assert all("seen" not in node.text for node in plain.values())
    for node in [*plain.values(), *nodes.values()]:
        assert type(node.spec).model_validate(node.spec.content()) == node.spec
    assert {type(node.spec) for node in nodes.values()} >= {TrainSpec, DistillSpec, SelectSpec, SignalSpec}


def planned_default(tmp_path: Path) -> set[str]:
    return set(planned(tmp_path, "distillation").graph.nodes)


@pytest.mark.parametrize(("trainer", "whitens"), [("distilled", True), ("supervised", False)])
def test_a_stage_whitens_for_the_trainers_that_ask_for_it(
    tmp_path: Path, digits: dict[str, Dataset], trainer: str, whitens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = tmp_path, []
    with building(store / "prepare" / "digits-0", {"spec": "digits"}) as artefact:
        assert artefact is not None
        for file in digits["zca"].folder.iterdir():
            (artefact.out / file.name).write_bytes(file.read_bytes())
    plugin = registry.load("train", trainer, "test")
    spec = TrainSpec.model_validate(
        {
            "seeds": (0,), "root_seed": 0, "data": "prepare/digits-0", "subset": None, "budget": None,
            "fraction": 1.0, "trainer": {"name": trainer, "params": {}},
            "model": {"name": "mlp", "params": {"width": 4}}, "epochs": 1, "steps_as": None, "min_steps": 0,
            "batch_size": 512, "proxy": None if whitens else 0, "fold": None, "split": None,
        }
    )  # fmt: skip

    def watched(params: Any, task: Any) -> dict[str, Any]:
        seen.append(task.whitening)
        facts: dict[str, Any] = plugin.function(params, task)
        return facts

    own = registry.load
    monkeypatch.setattr(
        registry,
        "load",
        lambda room, name, where: (
            replace(plugin, function=watched) if room == "train" else own(room, name, where)
        ),
    )
    train_all(Job(spec, store, store / "train" / spec.id(), "test", "cpu"))
    assert read_json(store / "train" / spec.id() / "spec.json") == spec.content()
    assert (seen[0] is not None) == whitens


# -- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suite", "changes", "message"),
    [
        (
            "distillation",
            {"scale__training__trainer": {"name": "supervised"}},
            r"distillation\.yaml: .*training\.trainer\.name: 'supervised' shows networks plain images only",
        ),
        ("mkdt", {"scale__transfer": ["digits_noisy"]}, r"mkdt\.yaml: .*transfer: with `inputs: zca`"),
        (
            "mkdt",
            {"scale__proxy__trainer": {"name": "distilled"}},
            r"proxy\.trainer\.name: 'distilled' would see whitened images",
        ),
        ("distillation", {"scales__demo__datasets": {"stl10": {}}}, "at most 12288 numbers each"),
    ],
)
def test_what_cannot_be_whitened_is_told_when_planning(
    tmp_path: Path, suite: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        whole_plan(tmp_path, suite, **changes)


def test_a_word_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="inputs"):
        planned(tmp_path, "distillation", scale__inputs="pca")


def test_a_damaged_matrix_is_not_used(tmp_path: Path, digits: dict[str, Dataset]) -> None:
    with building(tmp_path / "prepare" / "digits-0", {"spec": "digits"}) as artefact:
        assert artefact is not None
        for file in digits["zca"].folder.iterdir():
            (artefact.out / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "prepare" / "digits-0" / "whitening.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        Dataset.open(path.parent).whitening()
