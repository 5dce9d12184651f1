"""Image-text training: the towers, the loss, pieces of a batch, decay, mistakes; and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from parallel_cases import TOWERS, make_task
from safetensors.torch import load_file

from winnow import registry
from winnow.errors import UserError
from winnow.evaluate.engine.run import _Encoders
from winnow.models.engine.towers import LARGEST_SCALE, build_towers
from winnow.train.engine import image_text
from winnow.train.engine.image_text import Pairs, class_features, decaying, text_features
from winnow.train.engine.loop import Loop

CAPTIONS = ["a thin three", "a thick four", "the digit nine", "a slanted one"]


def towers(seed: int = 0, architecture: str = "tiny-vit", size: int = 8) -> Any:
    torch.manual_seed(seed)
    return build_towers(architecture, None, size)


def train(folder: Path, params: dict[str, Any], **changes: Any) -> dict[str, torch.Tensor]:
    plugin = registry.load("train", "clip", "test")
    plugin.function(
        plugin.params(**({"precision": "fp32"} | params)), make_task(folder, **(TOWERS | changes))
    )
    return load_file(folder / "out" / "model.safetensors")


def test_features_have_norm_one_and_grey_images_three_channels() -> None:
    model = towers().eval()
    grey = torch.rand(4, 1, 8, 8)
    tokens = model.tokens(CAPTIONS).long()
    found = model(grey, tokens)
    assert found.shape == (4, 2, 64)
    torch.testing.assert_close(found.norm(dim=2), torch.ones(4, 2))
    torch.testing.assert_close(found, model(grey.expand(-1, 3, -1, -1), tokens))


def test_tokens_are_open_clips_whatever_repeats() -> None:
    model = towers()
    captions = [CAPTIONS[i % 3] for i in range(10)]
    assert model.tokens(captions).tolist() == model.read(captions).tolist()


def test_pieces_of_a_batch_have_the_gradient_of_the_whole() -> None:
    model, images = towers(), torch.rand(10, 3, 8, 8)
    tokens = model.tokens([f"caption {i}" for i in range(10)]).long()
    gradients = []
    for parts in (1, 4):
        model.parts = parts
        model.zero_grad()
        encoded = model(images, tokens)
        logits = model.logit_scale.exp() * encoded[:, 0] @ encoded[:, 1].T
        torch.nn.functional.cross_entropy(logits, torch.arange(10)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


def test_the_loss_is_the_mean_of_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Loop] = []

    def stop(loop: Loop) -> torch.Tensor:
        found.append(loop)
        raise StopIteration

    monkeypatch.setattr(Loop, "run", stop)
    with pytest.raises(StopIteration):
        train(tmp_path, {})
    loop, rows = found[0], torch.arange(20)
    task = make_task(tmp_path / "again", **TOWERS)
    pixels = (task.pixels[task.rows[rows]].float() / 255 - 0.4) / 0.3
    tokens = loop.model.tokens([own[0] for own in task.captions()])[task.rows[rows]].long()  # type: ignore[operator]
    image, text = loop.model(pixels, tokens).unbind(1)
    logits = loop.model.logit_scale.exp() * image @ text.T  # type: ignore[operator]
    both = [-side.log_softmax(1).diagonal().mean() for side in (logits, logits.T)]
    torch.testing.assert_close(loop.step_loss(rows, 0), sum(both) / 2)


def test_gains_biases_and_the_scale_do_not_decay() -> None:
    model = towers(architecture="tiny-resnet", size=32)
    decays, still = (set(map(id, group["params"])) for group in decaying(model, 0.1))  # type: ignore[arg-type]
    names = dict(model.named_parameters())
    assert id(names["logit_scale"]) in still
    assert id(names["encoder.visual.conv1.weight"]) in decays
    assert id(names["encoder.visual.bn1.weight"]) in still
    assert id(names["text.ln_final.bias"]) in still
    assert len(decays) + len(still) == len(names) and not decays & still


def test_the_scale_stays_below_its_bound(tmp_path: Path) -> None:
    weights = train(tmp_path, {"lr": 2.0, "weight_decay": 0.0, "warmup": 0.0})
    assert weights["logit_scale"] <= math.log(LARGEST_SCALE) + 1e-6


def test_equal_seeds_give_equal_models_and_others_do_not(tmp_path: Path) -> None:
    first, again, other = (
        train(tmp_path / name, {}, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    key = "encoder.visual.proj"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first[key], other[key])


def test_a_killed_training_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_CHECKPOINT_SECONDS", "0")
    captions = [[f"{row} one", f"{row} two"] for row in range(90)]
    whole = train(tmp_path / "whole", {}, captions=lambda: captions)
    own = Loop._step

    def killed(loop: Loop, step: int, rows: torch.Tensor) -> torch.Tensor:
        if step == 4:
            raise KeyboardInterrupt
        return own(loop, step, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_step", killed)
        train(tmp_path / "parts", {}, captions=lambda: captions)
    taken: list[int] = []
    monkeypatch.setattr(Loop, "_step", lambda loop, step, rows: taken.append(step) or own(loop, step, rows))
    resumed = train(tmp_path / "parts", {}, captions=lambda: captions)
    assert 0 < taken[0] <= 4
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_pictures_are_told_apart_by_what_their_captions_say(tmp_path: Path) -> None:
    names = ["red", "green", "blue", "white", "black", "small", "large", "thin", "thick", "plain"]
    weights = train(
        tmp_path,
        {"lr": 3e-3, "weight_decay": 0.0},
        epochs=60,
        captions=lambda: [[f"a {names[row % 10]} picture"] for row in range(90)],
    )
    model = towers()
    model.load_state_dict(weights)
    task = make_task(tmp_path / "again", **TOWERS)
    with torch.no_grad():
        images = model.eval().encode_images((task.pixels[65:].float() / 255 - 0.4) / 0.3).numpy()
    predicted = (images @ class_features(model, names, ["a {} picture"]).T).argmax(1)
    assert (predicted == np.arange(65, 90) % 10).mean() > 0.8  # none of these was trained on


def test_with_templates_it_is_scored_as_a_classifier(tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    weights = train(tmp_path, {"templates": ["class {}", "a {}"]}, class_names=names)
    model = towers()
    model.load_state_dict(weights)
    task = make_task(tmp_path / "again", **TOWERS)
    with torch.no_grad():
        images = model.eval().encode_images((task.pixels[70:].float() / 255 - 0.4) / 0.3).numpy()
    expected = (
        weights["logit_scale"].exp().numpy() * images @ class_features(model, names, ["class {}", "a {}"]).T
    )
    np.testing.assert_allclose(np.load(tmp_path / "out" / "test_logits.npy"), expected, rtol=1e-3, atol=1e-4)


def test_prompts_are_averaged_over_templates() -> None:
    model = towers().eval()
    found = class_features(model, ["cat", "dog"], ["a {}", "the {}"])
    rows = text_features(model, ["a dog", "the dog"])
    mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
    np.testing.assert_allclose(found[1], mean, rtol=1e-5)


def test_each_step_draws_one_of_an_images_captions(tmp_path: Path) -> None:
    task = make_task(
        tmp_path,
        **TOWERS,
        captions=lambda: [[f"{row} first", f"{row} last"][: 1 + row % 2] for row in range(90)],
    )
    pairs, rows = Pairs(task, model := towers()), torch.arange(40)
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append(pairs.batch(rows, seed)[1])
    assert (seen[0] == seen[1]).all() and (seen[0] != seen[2]).any()
    first, last = (model.tokens([f"{row} {word}" for row in range(5, 45)]) for word in ("first", "last"))
    is_first = (seen[0] == first).all(dim=1)
    assert (is_first | (seen[0] == last).all(dim=1)).all()
    assert is_first[1::2].all() and 0 < is_first[::2].sum() < 20


LONG = "a man in a red shirt rides a bicycle down a hill past two dogs that are asleep in the sun"


@pytest.mark.parametrize("shards", [False, True])
def test_captions_that_are_cut_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: bool
) -> None:
    captions = [[f"{row} short", *([LONG] if row % 3 == 0 else [])] for row in range(90)]
    images = make_task(tmp_path / "task", **TOWERS).pixels.permute(0, 2, 3, 1).numpy()
    params = {"precision": "fp32", "workers": 0}
    plugin = registry.load("train", "clip", "test")
    for context, told in ((None, True), (22, True), (23, False)):
        model = {"architecture": "tiny-vit"} | ({} if context is None else {"context": context})
        changes: dict[str, Any] = {"captions": lambda: captions, "label": "x s0"}
        changes |= {"images": Elsewhere(images)} if shards else {}
        task = make_task(tmp_path / str(context), **TOWERS | {"model_params": model} | changes)
        facts = plugin.function(plugin.params(**params), task)
        found = capsys.readouterr().err
        assert facts["captions_cut"] == ("0.250" if told else "0.000")
        assert ("x s0: warning: 25.0% of 120 captions looked at are cut" in found) == told
        assert ("the longest has 23" in found and "{context: 23}" in found) == told


def test_texts_of_a_retrieval_that_are_cut_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    job = SimpleNamespace(output=Path("evaluate/some-id"), device="cpu")
    encoders = _Encoders(cast(Any, job), cast(Any, None), Path("model"), 2)
    encoders.__dict__["towers"] = towers().eval()
    assert encoders.texts(CAPTIONS).shape == (4, 64) and capsys.readouterr().err == ""
    encoders.texts([*CAPTIONS, f"{LONG} beside {LONG}"])
    assert "some-id s2: warning: 20.0% of 5 captions looked at are cut" in capsys.readouterr().err


def test_of_many_captions_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_text, "LOOKED_AT", 10)
    read = towers().read
    asked = list[str]()
    monkeypatch.setattr(read, "encode", lambda text: asked.append(text) or [0])
    assert image_text.share_cut(read, [[str(row)] for row in range(1000)], "x") == 0
    assert asked == ["0", "111", "222", "333", "444", "555", "666", "777", "888", "999"]


class Elsewhere:
    """Images that are not in memory as one array."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.pixels[rows]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_stay_in_shards_give_the_same_model(tmp_path: Path, workers: int) -> None:
    images = make_task(tmp_path / "task", **TOWERS).pixels.permute(0, 2, 3, 1).numpy()
    streamed = train(tmp_path / "streamed", {"workers": workers}, images=Elsewhere(images))
    loaded = train(tmp_path / "loaded", {})
    assert all(torch.equal(loaded[name], streamed[name]) for name in loaded)


def test_other_trainers_refuse_images_in_shards(tmp_path: Path) -> None:
    images = make_task(tmp_path / "task", **TOWERS).pixels.permute(0, 2, 3, 1).numpy()
    supervised = registry.load("train", "supervised", "test")
    changes = {"model": "mlp", "model_params": {"width": 16}, "batch_size": 20, "images": Elsewhere(images)}
    with pytest.raises(UserError, match="stay in shards"):
        supervised.function(supervised.params(precision="fp32"), make_task(tmp_path, **changes))


@pytest.mark.parametrize(
    ("params", "changes", "message"),
    [
        ({}, {"weights": torch.ones(60)}, "takes no weights"),
        ({}, {"model": "mlp", "model_params": {"width": 16}}, "two towers"),
        ({"parts": 11}, {}, "accepted: 1 to 10"),
    ],
)
def test_mistakes_end_in_one_message(
    tmp_path: Path, params: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path, params, **changes)


@pytest.mark.parametrize(("name", "message"), [("tiny-vot", "tiny-vit"), ("roberta-ViT-B-32", "hub")])
def test_architectures_that_cannot_be_built_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_towers(name, None, 32)


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [("tiny-resnet", 31, 32), ("RN50", 8, 32), ("tiny-vit", 1, 2), ("ViT-B-32", 31, 32)],
)
def test_images_of_which_a_tower_leaves_nothing_are_refused(name: str, size: int, least: int) -> None:
    with pytest.raises(UserError, match=f"{name} needs images of at least {least} pixels"):
        build_towers(name, None, size)


@pytest.mark.parametrize(("name", "size"), [("tiny-resnet", 32), ("tiny-vit", 2)])
def test_the_smallest_images_pass_a_tower(name: str, size: int) -> None:
    encoder = build_towers(name, None, size).encoder.eval()
    assert encoder(torch.zeros(2, 3, size, size)).shape[0] == 2


def test_a_trained_model_opens_in_open_clip(tmp_path: Path) -> None:
    import open_clip

    from winnow.plan.specs import Plugged
    from winnow.rehearse.cases import TrainCase
    from winnow.rehearse.standin import Look, make_data, run
    from winnow.train.engine.open_clip_format import export
    from winnow.train.engine.run import train_all

    look = Look((8, 8, 1), 3)
    params = registry.load("train", "clip", "test").params(precision="fp32").model_dump(mode="json")
    case = TrainCase(
        Plugged(name="clip", params=params), Plugged(name="clip", params=TOWERS["model_params"]), 1, 16, look
    )
    make_data(tmp_path, look, 64)
    run(tmp_path, case.spec(), train_all, "cpu")
    export(tmp_path / case.reference, 1, tmp_path / "out")
    opened, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'out'}")
    read = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    weights = load_file(tmp_path / case.reference / "s1" / "model.safetensors")
    model = towers()
    model.load_state_dict(weights)
    with torch.no_grad():
        images, tokens = torch.rand(2, 3, 8, 8), read(["one", "a thick two"])
        torch.testing.assert_close(
            opened.eval().encode_image(images, normalize=True), model.eval().encode_images(images)
        )
        torch.testing.assert_close(opened.encode_text(tokens, normalize=True), model.encode_texts(tokens))
    assert preprocess.transforms[-1].mean == [0.5] * 3
