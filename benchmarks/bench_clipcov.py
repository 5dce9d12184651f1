"""ClipCov on 300,000, 1,000,000 and 2,837,815 pairs x 512 float16 in 1,000 latent classes of log-normal
sizes.

Embeddings are memory-mapped files; the time includes all similarities, the memory is that of a process of
its own. The peer is the released notebook's procedure at period 200: it wants every class's similarities in
memory beforehand, so it is given them (its time does not include them), and it sorts all scores again after
every charge. Where they would take more than `PEER_GB` it is not run. Quality is the share of picks on
which both agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.comparison import Comparison, peak_gb, timed
from winnow.select.clipcov import RELEASED, ClipCovParams, select
from winnow.select.engine.quotas import groups_of
from winnow.select.engine.subset import View

SIZES, D, CLASSES, SPREAD = (300_000, 1_000_000, 2_837_815), 512, 1000, 0.85
CASES = (("paper", 0.05), ("paper", 0.1), ("released", 0.1))
BLOCK, PEER_GB = 8192, 4.0


def run() -> Iterator[Comparison]:
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), n)
            for variant, share in CASES:
                yield compare(Path(folder), n, variant, share)


def make(folder: Path, n: int) -> None:
    """Write unit image and text embeddings that share half of their variance, and their latent classes."""
    random = np.random.default_rng(0)
    weights = random.lognormal(0, SPREAD, CLASSES)
    classes = random.choice(CLASSES, n, p=weights / weights.sum())
    centres = random.standard_normal((CLASSES, D), np.float32)
    stored = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, (n, D))
        for name in ("embeddings", "text_embeddings")
    }
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        size = (part.stop - start, D)
        shared = 0.7 * centres[classes[part]] + random.standard_normal(size, np.float32)
        for values in stored.values():
            rows = shared + random.standard_normal(size, np.float32)
            values[part] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(folder / "latent_classes.npy", classes)
    np.save(folder / "label_similarity.npy", random.uniform(0.1, 0.4, n).astype(np.float32))


def view_of(folder: Path) -> View:
    signals = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    n = len(signals["latent_classes"])
    return View(n, np.full(n, -1), signals, memory_gb=3.0)


def compare(folder: Path, n: int, variant: str, share: float) -> Comparison:
    seconds, memory, chosen = in_own_process(folder, variant, share)
    sizes = np.bincount(np.load(folder / "latent_classes.npy"))
    needed = 4 * float((sizes.astype(float) ** 2).sum()) / 1e9
    peer, peer_s, agreement = (
        f"released loop (needs {needed:.0f} GB of similarities), not run",
        float("nan"),
        float("nan"),
    )
    if needed <= PEER_GB and variant == "released":
        peer = "released loop, similarities given"
        peer_s, expected = timed_release(view_of(folder), len(chosen))
        agreement = len(np.intersect1d(chosen, expected)) / len(chosen)
    return Comparison(
        name=f"clipcov/{variant}",
        input=f"{n} pairs x {D} float16, {share:.0%}",
        n=n,
        ours_s=seconds,
        peer=peer,
        peer_s=peer_s,
        ratio=peer_s / seconds,
        quality=agreement,
        quality_is="same picks",
        peak_gb=memory,
    )


def in_own_process(folder: Path, variant: str, share: float) -> tuple[float, float, np.ndarray]:
    """Return seconds, peak memory and picks of one selection, by a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.bench_clipcov", str(folder), variant, str(share)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(printed.splitlines()[-1])
    return found["seconds"], found["peak_gb"], np.load(folder / "picks.npy")


def timed_release(view: View, count: int) -> tuple[float, np.ndarray]:
    """Time the released loop; its scores and similarities are computed before."""
    images, texts = (np.asarray(view.signals[k], np.float32) for k in ("embeddings", "text_embeddings"))
    groups = groups_of(np.asarray(view.signals["latent_classes"]))
    label = np.asarray(view.signals["label_similarity"], np.float64)
    similar = [np.maximum(images[group] @ texts[group].T, 0) for group in groups]
    raw, score = np.zeros(view.n), np.zeros(view.n)
    means = [(images[g].mean(0, dtype=np.float64), texts[g].mean(0, dtype=np.float64)) for g in groups]
    totals = [sum(mean[side] for mean in means) for side in (0, 1)]
    for group, matrix, (image, text) in zip(groups, similar, means, strict=True):
        raw[group] = (matrix.sum(0) + matrix.sum(1)) / len(group)
        others = [(total - own) / (len(groups) - 1) for total, own in zip(totals, (image, text), strict=True)]
        near = texts[group] @ others[0] + images[group] @ others[1]
        own_score = np.einsum("nd,nd->n", images[group], texts[group], dtype=np.float64)
        score[group] = raw[group] + 2 * own_score + label[group] / 2 - near
    return timed(lambda: release(score, raw, label, groups, similar, count))


def release(
    score: np.ndarray,
    raw: np.ndarray,
    label: np.ndarray,
    groups: list[np.ndarray],
    similar: list[np.ndarray],
    count: int,
) -> np.ndarray:
    """Pick from the end of the sorted scores; sort them all again when a class has been charged."""
    period = int(RELEASED["period"])
    place, own = np.empty(len(score), int), np.empty(len(score), int)
    for k, group in enumerate(groups):
        own[group], place[group] = k, np.arange(len(group))
    score, picks = score.copy(), list[int]()
    taken: list[list[int]] = [[] for _ in groups]
    new: list[list[int]] = [[] for _ in groups]
    order = list(np.argsort(score))
    while len(picks) < count:
        j = int(order.pop())
        k = own[j]
        picks.append(j)
        taken[k].append(j)
        new[k].append(j)
        score[j] = -np.inf
        if (len(taken[k]) + 1) % period == 0:
            rows, group, matrix = place[new[k]], groups[k], similar[k]
            score[group] -= (matrix[:, rows].sum(1) + matrix[rows].sum(0)) / len(group)
            score[group] -= (raw[taken[k]].sum() + label[new[k]].sum() / 2) / len(group)
            new[k] = []
            order = list(np.argsort(score))
    return np.array(picks)


def main(folder: Path, variant: str, share: float) -> None:
    """Select once, after the loops have been compiled, and print seconds and peak memory."""
    params = ClipCovParams(**(RELEASED if variant == "released" else {}))
    random = np.random.default_rng(0)
    view = view_of(folder)
    few = np.arange(64)
    select(View(64, view.labels[few], {k: v[few] for k, v in view.signals.items()}), 8, random, params)
    seconds, chosen = timed(lambda: select(view, int(share * view.n), random, params))
    np.save(folder / "picks.npy", chosen.index)
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
