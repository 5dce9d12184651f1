"""The environment with img2dataset, for the tests that download."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from winnow.locks import locked

ROOT = Path(__file__).parents[2]


def crawl_python() -> Path:
    """Return its Python: of WINNOW_CRAWL_ENV or `.venv-crawl`, made if it is not there.

    Where it cannot be made the test is skipped, but not in continuous integration.
    """
    folder = Path(os.environ.get("WINNOW_CRAWL_ENV") or ROOT / ".venv-crawl")
    python = folder / "bin" / "python"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not python.is_file():
            said = _made(folder, python)
            if said:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no img2dataset: {said}")
    return python


def _made(folder: Path, python: Path) -> str:
    """Make the environment; returns what went wrong, or an empty text."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, str(ROOT / "envs" / "crawl.txt")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            python.unlink(missing_ok=True)
            return f"{' '.join(command)}: {done.stderr.strip()[-300:]}"
    return ""
