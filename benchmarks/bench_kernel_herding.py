"""Kernel herding: 10,000 points in 128 dimensions, 1,000 kept, beside coreax with the same kernel.

Each side runs in a process of its own, so that its peak memory is its own. Compilation is not timed: coreax
runs once before it is timed, and ours compiles nothing. The judge of both is the MMD in float64.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.comparison import Comparison

N, D, BUDGET = 10_000, 128, 1000

OURS = """
from winnow.select.engine.subset import View
from winnow.select.kernel_herding import KernelHerdingParams, select
view = View(len(rows), np.full(len(rows), -1), {"features": rows})
def solve():
    return select(view, budget, np.random.default_rng(0), KernelHerdingParams(length_scale=scale)).index
"""
COREAX = """
import equinox, jax.numpy as jnp
from coreax import Data
from coreax.kernels import SquaredExponentialKernel
from coreax.solvers import KernelHerding
solver = KernelHerding(budget, SquaredExponentialKernel(scale), unique=True)
data = Data(jnp.asarray(rows))
reduce = equinox.filter_jit(lambda solver, data: solver.reduce(data)[0].unweighted_indices)
def solve():
    return np.asarray(reduce(solver, data))
solve()
"""
FRAME = """
import sys
import numpy as np
from benchmarks.comparison import peak_gb, timed
folder, budget, scale = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rows = np.load(folder + "/rows.npy")
{side}
seconds, index = timed(solve)
np.save(folder + "/index.npy", index)
print(seconds, peak_gb())
"""


def alone(side: str, folder: Path, scale: float) -> tuple[float, float, np.ndarray]:
    """Return (seconds, peak GB, picks) of one side in a fresh process."""
    command = [sys.executable, "-c", FRAME.format(side=side), str(folder), str(BUDGET), str(scale)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    seconds, memory = map(float, done.stdout.split()[-2:])
    return seconds, memory, np.load(folder / "index.npy")


def mmd(rows: np.ndarray, index: np.ndarray, scale: float) -> float:
    """Return the maximum mean discrepancy of the picks to the pool, in float64."""

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for i in range(0, len(a), 1000):
            part = a[i : i + 1000]
            squares = (part**2).sum(1)[:, None] + (b**2).sum(1) - 2 * part @ b.T
            total += float(np.exp(-squares / (2 * scale**2)).sum())
        return total / len(a) / len(b)

    rows = rows.astype(np.float64)
    chosen = rows[index]
    square = mean_kernel(rows, rows) - 2 * mean_kernel(chosen, rows) + mean_kernel(chosen, chosen)
    return float(np.sqrt(max(square, 0.0)))


def run() -> Iterator[Comparison]:
    from winnow.select.engine.gaussian import median_heuristic

    random = np.random.default_rng(0)
    rows = random.normal(size=(10, D))[random.integers(10, size=N)] + random.normal(size=(N, D))
    rows = rows.astype(np.float32)
    scale = median_heuristic(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", rows)
        ours_s, ours_gb, ours = alone(OURS, folder, scale)
        peer_s, peer_gb, peer = alone(COREAX, folder, scale)
    yield Comparison(
        name="kernel_herding",
        input=f"{N} x {D}, {BUDGET} kept",
        n=N,
        ours_s=ours_s,
        peer=f"coreax 1.0.0 ({peer_gb:.2f} GB)",
        peer_s=peer_s,
        ratio=peer_s / ours_s,
        quality=mmd(rows, ours, scale) / mmd(rows, peer, scale),
        quality_is="MMD over the peer's",
        peak_gb=ours_gb,
    )
