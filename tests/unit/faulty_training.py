"""`scripts/train.py` with a fault: process 1 is killed in the fourth step of repetition 1.

Every step is followed by a checkpoint.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

from winnow.errors import run_main

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def break_training() -> None:
    from torch import Tensor

    from winnow.train.engine.loop import Loop

    step = Loop._step

    def broken(self: Loop, number: int, rows: Tensor) -> Tensor:
        if os.environ["RANK"] == "1" and number == 3 and self.label.endswith("s1"):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, number, rows)

    Loop._step = broken  # type: ignore[method-assign]
    Loop._due = lambda self: True  # type: ignore[method-assign]


if __name__ == "__main__":
    if "RANK" in os.environ:
        break_training()
    found = importlib.util.spec_from_file_location("train", SCRIPT)
    assert found is not None and found.loader is not None
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    run_main(script.main)
