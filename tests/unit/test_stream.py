"""Streams: the same batches for any number of workers, from any step on, and one message at the end."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from test_webdataset import NAMES, entry_of, pair, prepared, write_shard
from torch import Tensor

from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.train.engine.loop import Passes
from winnow.train.engine.stream import Captions, Stream

CPU = torch.device("cpu")
N = 20


def tokenise(texts: list[str]) -> Tensor:
    """Return the first four characters' numbers."""
    return torch.tensor([[ord(letter) for letter in text.ljust(4)[-4:]] for text in texts])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    folder = tmp_path_factory.mktemp("stream")
    shards = [folder / "data" / "toy" / name for name in NAMES]
    for number, path in enumerate(shards):
        write_shard(path, [pair(10 * number + i) for i in range(10)], first=10 * number)
    return prepared(folder, entry_of({"train": (N, {"shards": NAMES})}, shards)).images("train")


CAPTIONS = [[f"text {i:03d}"] for i in range(N)]
ROWS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 19, 18, 17, 0, 0], dtype=np.int64)


def passes(drop_last: bool = True) -> Passes:
    return Passes(len(ROWS), 4, 7, 0, ("stream",), drop_last=drop_last)


def streamed(
    source: ImageSource, workers: int, start: int, stop: int, drop_last: bool = True
) -> list[tuple[Tensor, Tensor]]:
    shown = passes(drop_last)
    with Stream(source, CAPTIONS, ROWS, shown, start, stop, workers, tokenise, CPU) as stream:
        return [stream.batch(step) for step in range(start, stop)]


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_hold_what_the_passes_say(source: ImageSource, drop_last: bool) -> None:
    found = streamed(source, 0, 0, 8, drop_last)
    for (images, tokens), (_, places) in zip(found, passes(drop_last).batches(0, 8), strict=True):
        rows = ROWS[places.numpy()]
        assert images.shape == (len(rows), 3, 12, 12)
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), source[rows])
        assert torch.equal(tokens, tokenise([CAPTIONS[row][0] for row in rows]))
        assert tokens.dtype == torch.int64


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(source: ImageSource, workers: int) -> None:
    assert same(streamed(source, workers, 0, 9), streamed(source, 0, 0, 9))


def test_a_resumed_stream_continues_in_the_middle(source: ImageSource) -> None:
    assert same(streamed(source, 2, 5, 9), streamed(source, 0, 0, 9)[5:])


def test_an_array_in_memory_gives_the_same(source: ImageSource) -> None:
    assert same(streamed(source[:], 1, 0, 3), streamed(source, 0, 0, 3))


def test_the_same_step_may_be_asked_for_again_and_no_other(source: ImageSource) -> None:
    with Stream(source, CAPTIONS, torch.from_numpy(ROWS), passes(), 2, 5, 1, tokenise, CPU) as stream:
        first = stream.batch(2)
        assert stream.batch(2) is first
        for wrong in (1, 4):
            with pytest.raises(ValueError, match="the next is 3"):
                stream.batch(wrong)
        stream.batch(3)
        stream.batch(4)
        with pytest.raises(ValueError, match="the end 5"):
            stream.batch(5)
    with pytest.raises(ValueError, match="10 images"):
        Stream(source[:10], CAPTIONS, ROWS, passes(), 0, 1, 0, tokenise, CPU)


class Blank:
    """Images without content."""

    shape, dtype = (N, 2, 2, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return N

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 2, 2, 3), dtype=np.uint8)


class Slow:
    """Images that take 50 ms a batch; row 13 kills its process, row 14 is damaged."""

    shape, dtype = (N, 2, 2, 3), np.dtype(np.uint8)

    def __len__(self) -> int:
        return N

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        if 13 in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        if 14 in rows:
            raise UserError("a.tar: sample '14': the image cannot be decoded")
        time.sleep(0.05)
        return np.zeros((len(rows), 2, 2, 3), dtype=np.uint8)


def stream_of(rows: list[int], workers: int, steps: int) -> Stream:
    shown = Passes(len(rows), len(rows), 0, 0)
    return Stream(Slow(), CAPTIONS, np.array(rows), shown, 0, steps, workers, tokenise, CPU)


def test_a_dead_worker_ends_in_one_message() -> None:
    with stream_of([12, 13], 2, 4) as stream, pytest.raises(UserError, match=r"has died .* fewer workers"):
        stream.batch(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_sample_keeps_its_message(workers: int) -> None:
    with stream_of([14], workers, 1) as stream, pytest.raises(UserError) as error:
        stream.batch(0)
    assert str(error.value) == "a.tar: sample '14': the image cannot be decoded"


def test_waiting_is_measured() -> None:
    with stream_of([1], 0, 6) as idle:
        for step in range(6):
            idle.batch(step)
    assert idle.waited_share > 0.9
    with stream_of([1], 1, 6) as busy:
        for step in range(6):
            busy.batch(step)
            time.sleep(0.15)
    assert busy.waited_share < idle.waited_share - 0.3
    final = busy.waited_share
    time.sleep(0.05)
    assert busy.waited_share == final
    with pytest.raises(ValueError, match="closed"):
        busy._next()


def test_workers_end_with_the_stream() -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text().split()
    with stream_of([1], 2, 50) as stream:
        stream.batch(0)
        assert len(children.read_text().split()) >= len(before) + 2
    latest = time.monotonic() + 20
    while len(children.read_text().split()) > len(before):
        assert time.monotonic() < latest
        time.sleep(0.05)


def test_captions_are_kept_whole() -> None:
    texts = ["", "a", "ü and 漢字", "", "last"]
    packed = Captions([[text] for text in texts])
    assert packed.draw(np.arange(len(packed)), seed=0) == texts


def test_each_step_draws_one_of_an_images_captions(source: ImageSource) -> None:
    captions = [[f"{row:02d}{letter}{letter}" for letter in "abcde"[: 1 + row % 5]] for row in range(N)]
    shown, steps = passes(), 600
    runs = []
    for workers, start in ((0, 0), (2, 0), (1, 500)):
        stream = Stream(Blank(), captions, ROWS, shown, start, steps, workers, tokenise, CPU)
        with stream:
            runs.append([stream.batch(step)[1] for step in range(start, steps)])
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True)), "workers change nothing"
    assert all(torch.equal(a, b) for a, b in zip(runs[0][500:], runs[2], strict=True)), "nor does a resume"
    texts = Counter("".join(map(chr, row)) for batch in runs[0] for row in batch.tolist())
    assert set(texts) == {text for row in ROWS for text in captions[row]}
    of_nine = [texts[text] for text in captions[9]]
    assert min(of_nine) > 0.6 * sum(of_nine) / 5, "each with equal chance"


def test_the_tokenizer_of_open_clip_runs_in_the_workers(source: ImageSource) -> None:
    open_clip = pytest.importorskip("open_clip")
    tokenizer = open_clip.get_tokenizer("RN50")
    with Stream(source, CAPTIONS, ROWS, passes(), 0, 2, 1, tokenizer, CPU) as stream:
        _, tokens = stream.batch(0)
    (_, places), *_ = passes().batches(0, 1)
    assert torch.equal(tokens, tokenizer([CAPTIONS[row][0] for row in ROWS[places.numpy()]]))
    assert tokens.shape == (4, 77)
