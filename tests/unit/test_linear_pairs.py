"""Vectors drawn from the two data models: their moments, their splits, and what `prepare` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from winnow.data.dataset import Dataset
from winnow.data.prepare import prepare
from winnow.data.readers import linear_pairs
from winnow.data.readers.linear_pairs import Latents, Options, draw
from winnow.errors import UserError
from winnow.plan.catalogue import DatasetEntry, load_catalogue, varied

CATALOGUE = load_catalogue(Path(__file__).parents[2] / "datasets.yaml")
N = 50_000


def entry(name: str = "linear_intra_class", n: int = 200, **options: Any) -> DatasetEntry:
    changed = varied(CATALOGUE[name], options, "test")
    return changed.model_copy(update={"splits": {"train": n, "validation": 50, "test": 50}})


def latents(model: str, spurious: float = 0.9, **options: Any) -> Latents:
    settings = Options.model_validate({"model": model} | options)
    return draw(settings, N, spurious, np.random.default_rng(0))


def test_moments_of_data_model_1() -> None:
    found = latents("intra_class", sigma_core=1.5, sigma_spu=0.2, spurious=0.8)
    sign = 2.0 * found.labels - 1
    core, spu = found.features.T
    assert (core * sign).mean() == pytest.approx(1, abs=0.03)
    assert (core - sign).std() == pytest.approx(1.5, rel=0.02)
    assert (spu * sign).mean() == pytest.approx(2 * 0.8 - 1, abs=0.02)
    assert (spu - np.sign(spu)).std() == pytest.approx(0.2, rel=0.03)
    assert sign.mean() == pytest.approx(0, abs=0.02)
    assert (found.prompts == np.stack([sign, 0 * sign], axis=1)).all()


def test_moments_of_data_model_2() -> None:
    found = latents("inter_class", sigma_core=0.3, detail=0.5, groups=4, spurious=0.8)
    group, sign = found.labels // 2, 2.0 * (found.labels % 2) - 1
    rows = np.arange(N)
    assert np.bincount(found.labels) / N == pytest.approx(1 / 8, abs=0.01)
    assert (found.features[rows, group] - sign).std() == pytest.approx(0.3, rel=0.02)
    following = found.features[rows, (group + 1) % 4]
    assert (np.abs(following) == 0.5).all()
    assert (following * sign > 0).mean() == pytest.approx(0.8, abs=0.01)
    for other in (2, 3):
        free = found.features[rows, (group + other) % 4]
        assert (np.abs(free) == 0.5).all() and (free * sign > 0).mean() == pytest.approx(0.5, abs=0.01)
    assert (found.prompts[rows, group] == sign).all() and (np.abs(found.prompts).sum(axis=1) == 1).all()


@pytest.mark.parametrize("model", ["intra_class", "inter_class"])
def test_captions_name_the_class_and_mention_the_rest_at_their_rate(model: str) -> None:
    none, some, all_ = (latents(model, richness=pi) for pi in (0, 0.3, 1))
    assert (none.captions == none.prompts).all() and (all_.captions == all_.features).all()
    said = some.captions != some.prompts
    assert said.mean(axis=0) == pytest.approx(0.3, abs=0.02)
    assert (some.captions[said] == some.features[said]).all()
    assert (none.features == some.features).all()  # the same draws at every richness


def test_the_test_split_turns_the_correlation_round() -> None:
    batches = {batch.split: batch for batch in linear_pairs.read(entry(n=5000, noise=0.0), {})}
    means = {}
    for split, batch in batches.items():
        assert batch.images is not None and batch.labels is not None
        images, sign = batch.images[:, 0, :, 0], 2.0 * batch.labels - 1
        means[split] = (images * sign[:, None]).mean(axis=0)
    core, other = means["train"] + means["test"], means["train"] - means["test"]
    assert np.linalg.norm(core) == pytest.approx(2, abs=0.4)
    assert np.linalg.norm(other) == pytest.approx(1.6, abs=0.4)
    assert np.linalg.norm(means["validation"] - means["train"]) < 0.5


def test_embedding_keeps_lengths_and_noise_spares_the_prompt() -> None:
    clean, noisy = (next(linear_pairs.read(entry(noise=noise), {})) for noise in (0.0, 0.5))
    assert clean.images is not None and noisy.images is not None
    drawn = draw(
        Options(model="intra_class"), 200, 0.9, np.random.default_rng([0, linear_pairs.zlib.crc32(b"train")])
    )
    vectors = clean.images[..., 0].astype(np.float64)
    for place, latent in enumerate((drawn.features, drawn.captions, drawn.prompts)):
        assert np.linalg.norm(vectors[:, place], axis=1) == pytest.approx(
            np.linalg.norm(latent, axis=1), rel=1e-5
        )
    added = noisy.images - clean.images
    assert added[:, :2].std() == pytest.approx(0.5, rel=0.05) and (added[:, 2] == 0).all()


def test_prepared_vectors_keep_their_precision_under_limits(tmp_path: Path) -> None:
    prepare(entry(), {}, tmp_path, {"train": 50}, seed=1)
    data = Dataset.open(tmp_path)
    read = next(linear_pairs.read(entry(), {}))
    rows = [int(name.rsplit("/", 1)[1]) for name in data.ids("train")]
    assert data.kind == "vectors" and data.images("train").dtype == np.float32
    assert read.images is not None and (data.images("train") == read.images[rows]).all()
    assert (data.mean, data.std) == ((), ())


@pytest.mark.parametrize(
    "options", [{"dimensions": 30}, {"model": "inter_class"}, {"model": "inter_class", "groups": 7}]
)
def test_options_and_entry_must_agree(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"kind: vectors.*shape"):
        next(linear_pairs.read(entry(**options), {}))


def test_varied_options_are_checked_and_the_others_stay() -> None:
    changed = varied(CATALOGUE["linear_inter_class"], {"richness": 0.5}, "suites/x.yaml: here")
    assert changed.options == {"model": "inter_class", "sigma_core": 0.3, "richness": 0.5}
    assert varied(changed, {}, "here") is changed
    with pytest.raises(UserError, match=r"suites/x\.yaml: here.*richnes"):
        varied(changed, {"richnes": 0.5}, "suites/x.yaml: here")
    with pytest.raises(UserError, match="cannot hold 5 latent"):
        varied(changed, {"dimensions": 3}, "here")
