"""Image-text pairs that stay in tar shards (webdataset layout): from a crawl, or listed as files.

A split takes the first usable pairs of its part, as many as `splits` states: addresses die, so that a
published list gives another number each time. What was left out is counted in `dataset.json`. The order is
that of the list (of a crawl) or of the shards and their samples. An example's identifier is made of its
address (else of the image's bytes) and its caption, and stays the same in every crawl; of equal pairs the
first is kept, in whichever split it is. With `captions: lines` each line of a sample's text is a caption of
its own, as clip-benchmark writes photographs that have several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import model_validator

from winnow.data.batch import Batch
from winnow.data.shards import DUPLICATE, count_problems, identity, index_shard
from winnow.data.tables import Part, refuse_overlaps
from winnow.errors import UserError
from winnow.plan.catalogue import CRAWLED, DatasetEntry, FileName, Frozen, ReaderOptions, Split
from winnow.store import read_json

if TYPE_CHECKING:
    import pandas

BEYOND = "beyond the number that the split takes"


class ShardSplit(Frozen):
    """The shards of a split (none: those of the crawl), and the part of their rows that it takes.

    Rows are numbered by the lines of the list, or from 0 through the samples of the shards.
    """

    shards: tuple[FileName, ...] = ()
    part: Part | None = None


class Options(ReaderOptions):
    """Options of the reader `webdataset`."""

    splits: dict[Split, ShardSplit]
    captions: Literal["whole", "lines"] = "whole"

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Self:
        refuse_overlaps(
            (name, {", ".join(split.shards) or "the crawl"}, split.part)
            for name, split in self.splits.items()
        )
        return self

    def file_names(self) -> set[str]:
        """Return the shards that are files of the dataset."""
        return {shard for split in self.splits.values() for shard in split.shards}


def read(entry: DatasetEntry, files: dict[str, Path]) -> Iterator[Batch]:
    """Yield captions and the places of the images, shard by shard; no image is decoded of a crawl."""
    seen: set[str] = set()
    options = Options.model_validate(entry.options)
    for split, where in options.splits.items():
        taken, counts = 0, Counter[str]()
        for index in _indexes(entry, split, where, files):
            part = where.part
            rows = index[part.holds(index["line"].to_numpy())] if part else index
            counts.update(count_problems(rows["problem"]))
            usable = _without_repeats(rows[rows["problem"] == ""], seen, counts)
            kept = usable[: entry.splits[split] - taken]
            counts[BEYOND] += len(usable) - len(kept)
            taken += len(kept)
            if len(kept):
                yield _batch(entry, split, kept, options.captions)
        if taken < entry.splits[split]:
            raise UserError(
                f"datasets.yaml: {entry.name}.splits.{split}: {entry.splits[split]} pairs, but the shards "
                f"hold {taken} usable ones for it. Left out: {dict(+counts)}. Accepted: 1 to {taken}."
            )
        yield Batch(split, counts=dict(+counts))


def _indexes(
    entry: DatasetEntry, split: str, where: ShardSplit, files: dict[str, Path]
) -> Iterator[pandas.DataFrame]:
    """Yield the index of each shard in order, with `shard` (place below the data folder) and `line`."""
    if where.shards:
        first = 0
        for name in where.shards:
            index = index_shard(files[name])
            index["line"] = np.arange(first, first + len(index))
            first += len(index)
            yield index.assign(shard=f"{files[name].parent.name}/{name}")
    elif entry.crawl is not None:
        yield from _crawled(files[CRAWLED])
    else:
        raise UserError(
            f"datasets.yaml: {entry.name}.options.splits.{split}: name `shards` that are among the files, or "
            "give the dataset a `crawl`."
        )


def _crawled(manifest: Path) -> Iterator[pandas.DataFrame]:
    import pandas
    import pyarrow

    folder = manifest.resolve().parent / "shards"
    for record in read_json(manifest)["shards"]:
        tar = folder / str(record["shard"])
        path = tar.with_suffix(".index.parquet")
        try:
            size, index = tar.stat().st_size, pandas.read_parquet(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{tar}: missing or damaged ({error!r}). {_again(tar, manifest)}") from error
        if size != record["bytes"] or len(index) != record["fetched"]:
            raise UserError(
                f"{tar}: is not the shard that {manifest.name} describes. {_again(tar, manifest)}"
            )
        for side in ("width", "height"):  # an index of an early crawl has the size in the shard alone
            index[f"original_{side}"] = index.get(f"original_{side}", index[side])
        yield index.sort_values("line").assign(shard=f"{manifest.parent.name}/shards/{tar.name}")


def _again(tar: Path, manifest: Path) -> str:
    record = tar.with_suffix(".record.json")
    return f"Delete {record} and {manifest}, then run `snakemake download`: it is fetched anew."


def _without_repeats(usable: pandas.DataFrame, seen: set[str], counts: Counter[str]) -> pandas.DataFrame:
    """Add the column `id` and drop the pairs whose id has been seen."""
    columns = (usable[name] for name in ("url", "sha256", "caption"))
    ids = [identity(*values) for values in zip(*columns, strict=True)]
    new = [identifier not in seen and not seen.add(identifier) for identifier in ids]  # type: ignore[func-returns-value]
    counts[DUPLICATE] += len(new) - sum(new)
    return usable.assign(id=ids)[np.array(new, dtype=bool)]


def _batch(entry: DatasetEntry, split: Split, rows: pandas.DataFrame, captions: str) -> Batch:
    rows = rows.reset_index(drop=True)
    table = rows[["caption", "url"]]
    if captions == "lines":
        table = table.assign(caption=rows["caption"].map(_lines))
    names: Any = ["shard", "offset", "length", "original_width", "original_height", "key"]
    return Batch(
        split,
        table=table,
        shards=rows[names],
        ids=[f"{entry.name}/{split}/{identifier}" for identifier in rows["id"]],
    )


def _lines(text: str) -> list[str]:
    """Return the lines of a text that is not empty, blank ones left out."""
    return [line.strip() for line in text.split("\n") if line.strip()]
