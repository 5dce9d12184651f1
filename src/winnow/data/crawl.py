"""Crawls: from a published list of addresses and captions to verified shards of images.

img2dataset downloads into a folder of its own. Each shard that it finishes is opened, every image decoded,
and only then moved to `shards/` with its index and a record; the record says that the shard is whole. So a
crawl that is killed continues with the shards that have no record. `crawl.json`, the manifest, comes last.

    shards/00000.tar             the pairs: .jpg, .txt, .json
    shards/00000.parquet         every line of the list: status and error (of img2dataset)
    shards/00000.index.parquet   where each image lies, and what is wrong with it (`winnow.data.shards`)
    shards/00000.record.json     bytes and sha256 of these, and the counts
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np

from winnow.canonical import sha256_file
from winnow.data.shards import UNDECODABLE, count_problems, index_shard
from winnow.errors import UserError
from winnow.locks import locked
from winnow.plan.catalogue import CRAWLED, Crawl, DatasetEntry
from winnow.store import read_json, write_json

WORKER: Final = Path(__file__).with_name("crawl_worker.py")
ROUNDS: Final = 3
"""Times that the tool is started for shards that came out damaged or not at all."""
BATCH: Final = 100_000

_REASONS: Final = {
    r"HTTP Error (\d+)": r"status \1",
    r"timed out|took longer": "timed out",
    r"larger than": "too large",
    r"truncated|IncompleteRead": "truncated",
    r"buf.empty": "empty answer",
    r"decoding error": "not an image",
    r"too small|aspect ratio|area too large|IMAGE_PIXELS": "shape refused",
    r"disallowed": "disallowed by the site",
    r"CERTIFICATE|SSL|certificate": "no secure connection",
    r"Name or service|name resolution|getaddrinfo|No address|nodename": "no such host",
    r"refused|reset|Remote end closed|unreachable|No route|Broken pipe": "no connection",
    r"unknown url type|no host given|can't contain|redirection|Invalid": "not a usable address",
}
LOST: Final = "lost by the tool"


@dataclass(frozen=True)
class Limits:
    """What one address may take: seconds of silence, seconds and bytes in all, further attempts.

    `stalled_s`: the tool is stopped when nothing has come for so long. `look_s`: time between two looks.
    """

    silent_s: int = 10
    seconds: float = 60.0
    bytes: int = 50 << 20
    retries: int = 1
    stalled_s: float = 900.0
    look_s: float = 2.0


@dataclass(frozen=True)
class _Job:
    """One crawl: its settings, its list as a table, and its places."""

    crawl: Crawl
    table: Path
    rows: int
    folder: Path
    python: Path
    limits: Limits
    log: Callable[[str], None]

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def work(self) -> Path:
        return self.folder / ".work" / "crawl"

    @property
    def names(self) -> list[str]:
        return [f"{number:05d}" for number in range(ceil(self.rows / self.crawl.shard_size))]

    def missing(self) -> list[str]:
        return [name for name in self.names if not (self.shards / f"{name}.record.json").is_file()]


def run_crawl(
    entry: DatasetEntry,
    listed: Path,
    folder: Path,
    python: Path,
    processes: int = 1,
    threads: int = 64,
    limits: Limits = Limits(),
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Download the pairs of a dataset into `folder` and return the manifest, which is also written there.

    listed: the published list. python: of the environment with img2dataset. processes, threads: of the
    download. Shards that `folder` has already are kept. Raises `UserError` if the list is not what the entry
    describes, the folder holds a crawl of another list, or shards do not come whole.
    """
    assert entry.crawl is not None, "the plan asks for crawls of entries with `crawl` only"
    work = folder / ".work"
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / f"{CRAWLED}.lock"):
        digest = sha256_file(listed)
        table, rows, malformed = list_table(entry.crawl, listed, work / f"list-{digest[:16]}.parquet")
        settings = {"sha256": digest, **entry.content()["crawl"]}
        job = _Job(entry.crawl, table, rows, folder, python, limits, log)
        _claim(job, settings)
        tool = tool_version(python)
        _bring_shards(job, processes, threads)
        manifest = _manifest(job, settings, malformed, tool)
        write_json(folder / CRAWLED, manifest)
        shutil.rmtree(job.work, ignore_errors=True)
        table.unlink()
    return manifest


def find_list(entry: DatasetEntry, data: Path, mirror: Path | None) -> Path:
    """Return the published list of a crawl, checked.

    data: the folder with the dataset's downloads. A list that the catalogue describes as a file lies there;
    any other has to be in the mirror, with the checksum that its user vouches for beside it.
    """
    assert entry.crawl is not None
    name = entry.crawl.list
    if any(file.name == name for file in entry.files):
        return data / name
    where = "no mirror is set" if mirror is None else f"{mirror / entry.name / name} is not there"
    if mirror is None or not (mirror / entry.name / name).is_file():
        published = f", published at {entry.crawl.address}," if entry.crawl.address else ""
        raise UserError(
            f"datasets.yaml: {entry.name}.crawl: the list '{name}'{published} has no known checksum and "
            f"{where}. Set `mirror` in config.yaml (or WINNOW_MIRROR) to a folder with {entry.name}/{name}."
        )
    found = mirror / entry.name / name
    stated = found.with_name(f"{name}.sha256")
    if not stated.is_file():
        raise UserError(
            f"{stated}: not there. No checksum of this list is known, so state the one of yours: "
            f"cd {found.parent} && sha256sum {name} > {stated.name}"
        )
    if stated.read_text(encoding="utf-8").split()[:1] != [sha256_file(found)]:
        raise UserError(f"{found}: its sha256 is not the one in {stated.name}. Copy the list again.")
    return found


def list_table(crawl: Crawl, listed: Path, out: Path) -> tuple[Path, int, int]:
    """Write the list as Parquet with `url`, `caption` and `line`; returns it, its rows and malformed lines.

    Quotes mean nothing in these lists. A line with another number of fields, or not in UTF-8, is left out.
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema({"url": "string", "caption": "string", "line": "int64"})
    malformed = rows = 0
    part = out.with_name(f"{out.name}.part")
    with listed.open("rb") as lines, parquet.ParquetWriter(part, schema) as writer:
        for batch in _batches(_fields(crawl, lines)):
            good = [(line, values) for line, values in batch if values is not None]
            malformed += len(batch) - len(good)
            rows += len(good)
            columns = {name: [values[name] for _, values in good] for name in ("url", "caption")}
            writer.write_table(pyarrow.table(columns | {"line": [line for line, _ in good]}, schema))
    if not rows:
        raise UserError(
            f"{listed}: no line has the {len(crawl.columns)} fields {', '.join(crawl.columns)}, separated by "
            "tabs. Mend `crawl.columns` in datasets.yaml."
        )
    os.replace(part, out)
    return out, rows, malformed


def _fields(crawl: Crawl, lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, str] | None]]:
    for number, line in enumerate(lines):
        if number == 0 and crawl.header:
            continue
        try:
            values = line.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            values = []
        fits = len(values) == len(crawl.columns)
        yield number, dict(zip(crawl.columns, values, strict=True)) if fits else None


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _claim(job: _Job, settings: dict[str, Any]) -> None:
    """Refuse to add to the shards of another list or of other settings."""
    job.shards.mkdir(exist_ok=True)
    path = job.shards / "settings.json"
    if path.is_file() and read_json(path) != settings:
        raise UserError(
            f"{job.shards}: holds a crawl of another list or with other settings ({path.name}). Move the "
            "folder away to crawl anew, or take back the change in datasets.yaml."
        )
    write_json(path, settings)


def _bring_shards(job: _Job, processes: int, threads: int) -> None:
    """Let the tool make the missing shards, as often as `ROUNDS` allows."""
    for left in sorted(job.work.glob("*")):
        _adopt(job, left)
        shutil.rmtree(left, ignore_errors=True)
    for number in range(ROUNDS):
        missing = job.missing()
        if not missing:
            return
        job.log(f"{job.folder}: {len(missing)} of {len(job.names)} shards to make")
        _run_tool(job, job.work / f"{os.getpid()}-{number}", processes, threads)
    if missing := job.missing():
        raise UserError(
            f"{job.folder}: {len(missing)} shards did not come whole in {ROUNDS} rounds, the first is "
            f"{missing[0]}. What the tool said is in {job.folder / '.work' / 'img2dataset.log'}."
        )


def _run_tool(job: _Job, out: Path, processes: int, threads: int) -> None:
    """Start img2dataset for the shards that are missing, and take each one over when it is finished."""
    out.mkdir(parents=True)
    for record in job.shards.glob("*.record.json"):
        (out / f"{record.name.split('.')[0]}_stats.json").write_text("{}")  # which it then leaves out
    arguments = {
        "url_list": str(job.table),
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "save_additional_columns": ["line"],
        "output_format": "webdataset",
        "output_folder": str(out),
        "number_sample_per_shard": job.crawl.shard_size,
        "image_size": job.crawl.image_size,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "processes_count": min(processes, len(job.missing())),
        "thread_count": threads,
        "timeout": job.limits.silent_s,
        "retries": job.limits.retries,
        "extract_exif": False,
        "compute_hash": "sha256",
        "enable_wandb": False,
        "incremental_mode": "incremental",
    }
    environment = _environment(job.limits)
    with (
        (job.folder / ".work" / "img2dataset.log").open("ab") as said,
        _ended(
            subprocess.Popen(
                [job.python, str(WORKER), json.dumps(arguments)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        ) as process,
    ):
        progress, since = -1, time.monotonic()
        while process.poll() is None:
            time.sleep(job.limits.look_s)
            _adopt(job, out)
            if (size := _size(out)) != progress:
                progress, since = size, time.monotonic()
            elif time.monotonic() - since > job.limits.stalled_s:
                job.log(f"{job.folder}: nothing came for {job.limits.stalled_s:g} s; the download is stopped")
                break
    _adopt(job, out)
    shutil.rmtree(out, ignore_errors=True)


def _environment(limits: Limits) -> dict[str, str]:
    """Return the tool's environment: our limits, and nothing of our Python or of telemetry."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {
        "WINNOW_CRAWL_MAX_BYTES": str(limits.bytes),
        "WINNOW_CRAWL_MAX_SECONDS": str(limits.seconds),
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 28),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "WANDB_MODE": "disabled",
    }


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave no process of the tool behind, however the block ends."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _size(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())


def _adopt(job: _Job, out: Path) -> None:
    """Verify the shards that the tool has finished in its folder, and move them to their place."""
    wanted = set(job.missing())
    for path in sorted(out.glob("*_stats.json")):
        name = path.name.removesuffix("_stats.json")
        try:
            stats = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # still being written, or cut off by a kill
        if name in wanted and (out / f"{name}.tar").is_file():
            _settle(job, out, name, stats)


def _settle(job: _Job, out: Path, name: str, stats: dict[str, Any]) -> None:
    tar = out / f"{name}.tar"
    try:
        index = index_shard(tar, facts_needed=True)
    except UserError as error:
        job.log(str(error))
        tar.unlink()
        return
    if len(index) != stats["successes"]:
        job.log(f"{tar}: holds {len(index)} samples, the tool states {stats['successes']}; fetched again")
        tar.unlink()
        return
    failures = Counter({LOST: int(stats["count"]) - sum(stats["status_dict"].values())})
    for message, count in stats["status_dict"].items():
        failures[reason(message)] += count if message != "success" else 0
    place = job.shards / f"{name}.index.parquet"
    index.to_parquet(place, index=False)
    record = {
        "shard": f"{name}.tar",
        "bytes": tar.stat().st_size,
        "sha256": sha256_file(tar),
        "index_sha256": sha256_file(place),
        "listed": int(stats["count"]),
        "fetched": len(index),
        "usable": int((index["problem"] == "").sum()),
        "failures": {key: n for key, n in sorted(failures.items()) if n},
        "problems": count_problems(index["problem"]),
    }
    os.replace(out / f"{name}.parquet", job.shards / f"{name}.parquet")
    os.replace(tar, job.shards / f"{name}.tar")
    write_json(job.shards / f"{name}.record.json", record)
    job.log(f"{name}: {record['usable']} of {record['listed']} pairs, {dict(failures.most_common(3))}")


def reason(message: str) -> str:
    """Return in one of a few ways why an address gave no image; img2dataset has it as free text."""
    for pattern, name in _REASONS.items():
        if match := re.search(pattern, message):
            return match.expand(name)
    return "other"


def _manifest(job: _Job, settings: dict[str, Any], malformed: int, tool: str) -> dict[str, Any]:
    """Return what is known of the whole crawl, after a look at every shard's size."""
    records = []
    for name in job.names:
        record = read_json(job.shards / f"{name}.record.json")
        tar = job.shards / record["shard"]
        if not tar.is_file() or tar.stat().st_size != record["bytes"]:
            raise UserError(
                f"{tar}: missing or not of {record['bytes']} bytes. Delete {name}.record.json beside it and "
                "run again: the shard is then fetched anew."
            )
        records.append(record)
    totals = {key: sum(record[key] for record in records) for key in ("listed", "fetched", "usable")}
    return {
        "settings": settings,
        "tool": tool,
        "malformed_lines": malformed,
        **totals,
        "duplicate_images": _duplicates(job),
        "failures": _summed(record["failures"] for record in records),
        "problems": _summed(record["problems"] for record in records),
        "shards": records,
    }


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _duplicates(job: _Job) -> int:
    """Return how many images have the same bytes as an earlier one; by the first 64 bits of the digest."""
    from pyarrow import parquet

    digests = []
    for name in job.names:
        table = parquet.read_table(job.shards / f"{name}.index.parquet", columns=["sha256", "problem"])
        whole = [
            int(digest[:16], 16)
            for digest, problem in zip(*(table[c].to_pylist() for c in ("sha256", "problem")), strict=True)
            if digest and problem != UNDECODABLE
        ]
        digests.append(np.array(whole, dtype=np.uint64))
    joined = np.concatenate(digests)
    return len(joined) - len(np.unique(joined))


def damaged_shards(manifest: Path) -> list[Path]:
    """Return the records of the shards of a crawl that are no longer what was verified; reads them all.

    Without its record a shard is fetched anew.
    """
    folder = manifest.parent / "shards"
    found = []
    for record in read_json(manifest)["shards"]:
        tar = folder / record["shard"]
        stated = {tar: record["sha256"], tar.with_suffix(".index.parquet"): record["index_sha256"]}
        if not all(path.is_file() and sha256_file(path) == digest for path, digest in stated.items()):
            found.append(tar.with_suffix(".record.json"))
    return found


def tool_python(root: Path) -> Path:
    """Return the Python with img2dataset: WINNOW_CRAWL_ENV, else `.venv-crawl` of the clone."""
    folder = Path(os.environ.get("WINNOW_CRAWL_ENV") or root / ".venv-crawl")
    python = folder / "bin" / "python"
    if not python.is_file():
        raise UserError(
            f"{folder}: no environment with img2dataset. Make it with `make crawl-env`, or let the variable "
            "WINNOW_CRAWL_ENV name its folder."
        )
    return python


def tool_version(python: Path) -> str:
    """Return the name and version of the tool; raises `UserError` if that Python does not have it."""
    ask = "from importlib.metadata import version; print(version('img2dataset'))"
    command = [str(python), "-I", "-c", ask]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{python}: has no img2dataset. Make its environment with `make crawl-env`.")
    return f"img2dataset {done.stdout.strip()}"
