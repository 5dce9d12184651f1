"""Shards to batches: pairs per second with one and two workers, beside the `webdataset` library's pipeline.

Both read the same tar shards of 256-pixel JPEGs (gradients and noise), decode with Pillow, fit to 224 pixels
as open_clip evaluates, tokenise, and hand over batches of 128. Ours shows the rows in a new random order, the
library reads each shard from its start to its end. The starting of the workers counts for both. The quality
says that both showed the same pixels and tokens in all.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
import webdataset
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.data.lazy import ShardImages
from winnow.data.shards import index_shard
from winnow.train.engine.loop import Passes
from winnow.train.engine.stream import Stream

SHARDS, PER_SHARD, BATCH, SIZE = 4, 1024, 128, 224
PAIRS = SHARDS * PER_SHARD
TOKENISE = open_clip.get_tokenizer("RN50")
FIT = Compose([Resize(SIZE, interpolation=InterpolationMode.BICUBIC), CenterCrop(SIZE)])


def make_shards(folder: Path) -> list[Path]:
    """Write the shards: pictures of 256 pixels on the shorter side, as a crawl leaves them."""
    random, paths = np.random.default_rng(0), []
    for number in range(SHARDS):
        paths.append(folder / f"{number:05d}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for row in range(PER_SHARD):
                width, height = (256, int(random.integers(256, 400)))[:: 1 if row % 2 else -1]
                smooth = np.linspace(0, 200, width)[None, :, None] * random.random(3)
                noise = random.integers(0, 56, (height, width, 3))
                encoded = io.BytesIO()
                Image.fromarray((smooth + noise).astype(np.uint8)).save(encoded, "JPEG", quality=95)
                facts = json.dumps({"url": f"http://x/{number}/{row}"}).encode()
                parts = {"jpg": encoded.getvalue(), "txt": f"picture {row} of {number}".encode()}
                for ending, content in (parts | {"json": facts}).items():
                    member = tarfile.TarInfo(f"{number:05d}{row:04d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return paths


def total(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[int, int, int]:
    """Return the number of pairs and the sums of all pixels and tokens."""
    sums = [
        (len(images), int(images.sum(dtype=torch.int64)), int(tokens.sum())) for images, tokens in batches
    ]
    pairs, pixels, tokens = (sum(column) for column in zip(*sums, strict=True))
    return pairs, pixels, tokens


def ours(images: ShardImages, captions: list[list[str]], workers: int) -> tuple[int, int, int]:
    steps, cpu = PAIRS // BATCH, torch.device("cpu")
    passes = Passes(PAIRS, BATCH, root_seed=0, seed=0)
    with Stream(images, captions, np.arange(PAIRS), passes, 0, steps, workers, TOKENISE, cpu) as stream:
        return total(stream.batch(step) for step in range(steps))


def collate(samples: list[tuple[Any, str]]) -> tuple[Tensor, Tensor]:
    pictures = np.stack([np.asarray(FIT(picture), dtype=np.uint8) for picture, _ in samples])
    return torch.from_numpy(pictures), TOKENISE([text for _, text in samples])


def peer(paths: list[Path], workers: int) -> tuple[int, int, int]:
    """Run the library's pipeline as its documentation shows, one shard after the other per worker."""
    pipeline = (
        webdataset.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False)
        .decode("pil")
        .to_tuple("jpg", "txt")
        .batched(BATCH, collation_fn=collate)
    )
    return total(webdataset.WebLoader(pipeline, batch_size=None, num_workers=workers))


def run() -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "pairs").mkdir()
        paths = make_shards(data / "pairs")
        index_s, tables = timed(lambda: [index_shard(path) for path in paths])
        named = zip(tables, paths, strict=True)
        index = pd.concat([table.assign(shard=f"pairs/{path.name}") for table, path in named])
        images = ShardImages(index, data, (SIZE, SIZE, 3), {})
        for workers in (1, 2):
            our_s, our_total = timed(lambda: ours(images, [[text] for text in index["caption"]], workers))  # noqa: B023
            peer_s, peer_total = timed(lambda: peer(paths, workers))  # noqa: B023
            yield Comparison(
                name="loading/stream",
                input=f"{PAIRS} pairs, {workers} workers ({PAIRS / our_s:.0f} and {PAIRS / peer_s:.0f} "
                f"pairs/s; indexed once at {PAIRS / index_s:.0f}/s)",
                n=PAIRS,
                ours_s=our_s,
                peer=f"webdataset {webdataset.__version__}",
                peer_s=peer_s,
                ratio=peer_s / our_s,
                quality=float(our_total == peer_total),
                quality_is="same pixels and tokens (1 = all)",
                peak_gb=peak_gb(),
            )
