"""What a signal is given: the data, the trained models if it needs any, and other signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from winnow.data.dataset import Dataset
from winnow.errors import UserError
from winnow.store import load_array


@dataclass(frozen=True)
class Proxy:
    """One trained model: its artefact, and the module in evaluation mode once it is asked for.

    device_name: as in the configuration. torch is imported with the model: recorded arrays need none. seen:
    the data that it was trained on, where these are other than `data`, which it is asked about.
    """

    folder: Path
    seed: int
    data: Dataset
    device_name: str
    seen: Dataset | None = None

    @cached_property
    def device(self) -> Any:
        """The device that the model is loaded to."""
        from winnow.train.engine.device import pick_device

        return pick_device(self.device_name)

    @cached_property
    def space(self) -> Any:
        """How images are shown to the model: by the mean and deviation of what it was trained on."""
        from winnow.train.engine.space import Space

        return Space.plain(self.seen or self.data, self.device)

    def load(self) -> Any:
        """Return the model, whose `encoder` gives features and whose `head` gives outputs."""
        from winnow.train.engine.trained import load_trained

        return load_trained(self.folder, self.seed, self.data).to(self.device)

    def array(self, name: str) -> np.ndarray:
        """Return an array that the training recorded, e.g. `dynamics/loss`."""
        path = f"s{self.seed}/{name}.npy"
        if not (self.folder / path).is_file():
            raise UserError(
                f"{self.folder / path}: the training recorded no {name.split('/')[0]}; set `record: true` of"
                " the proxy's trainer in the suite."
            )
        return load_array(self.folder, path)


@dataclass(frozen=True)
class SignalView:
    """One repetition's inputs. `proxies`: trained models, in the order of their numbers.

    signals: arrays by name, one row per example of the pool. target: other data, whose training images
    stand for what models are to be good at.
    """

    data: Dataset
    root_seed: int
    seed: int
    proxies: tuple[Proxy, ...] = ()
    signals: dict[str, np.ndarray] = field(default_factory=dict)
    target: Dataset | None = None
