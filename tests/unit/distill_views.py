"""A small view for methods of distillation: random images, experts that walk at random, a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from winnow import registry
from winnow.distill.engine.learned import Distilled
from winnow.distill.engine.students import flat
from winnow.distill.engine.view import DistillView
from winnow.train.engine.classifier import assemble
from winnow.train.engine.recipe import Examples

METHODS = [name for name in registry.names("distill") if name != "given"]  # its sets are in files
MODEL = registry.load("models", "convnet", "")
SIZE, CLASSES, N, M = 8, 3, 60, 9
SHORT: dict[str, dict[str, Any]] = {
    "iterations": {"iterations": 3},
    "rounds": {"rounds": 2, "epochs": 2, "batch_real": 8, "iterations": 2},
    "student_steps": {"student_steps": 3, "expert_epochs": 1, "max_start": 2, "batch_size": 4},
    "batch_real": {"batch_real": 8},
    "warm_up": {"warm_up": 1, "warm_up_iterations": 1},
    "candidates": {"candidates": 6, "crops": 2},
    "frequencies": {"frequencies": 32},
    "oldest": {"oldest": 4, "pool": 2, "batch_real": 20, "lr_images": 0.01},
}
OWN_START = ("dream", "ncfm", "sre2l")
"""Methods that start from images of their own, not from those that a suite gives."""
LOOPS = [name for name in METHODS if "iterations" in registry.load("distill", name, "").params.model_fields]


def params_of(name: str, variant: str | None = None) -> Any:
    """Return the parameters of a method for a run of seconds."""
    method = registry.load("distill", name, "")
    known = method.params.model_fields
    short = {key: value for field, own in SHORT.items() if field in known for key, value in own.items()}
    if name == "dream":
        short |= {"cluster_every": 1, "train_on": 20}
    if name == "datm":  # experts that walk at random know nothing
        short |= {"labels": "given", "lr_labels": 0.0, "first_max_start": 1}
    return method.params(**{**method.variants[variant or method.default_variant], **short})


def make_self_supervised() -> torch.nn.Module:
    """Return a network that gives each image five numbers, which students regress on."""
    torch.manual_seed(6)
    return assemble(MODEL, MODEL.params(depth=1, width=4), 1, SIZE, 5).eval()


def make_teacher() -> torch.nn.Module:
    """Return a network with batch norms that has learned to tell images by their brightness."""
    torch.manual_seed(5)
    network = assemble(MODEL, MODEL.params(depth=2, width=4, norm="batch"), 1, SIZE, CLASSES)
    optimiser, labels = torch.optim.Adam(network.parameters(), 0.02), torch.arange(N) % CLASSES
    for _ in range(30):
        optimiser.zero_grad()
        images = torch.randn(N, 1, SIZE, SIZE) + labels[:, None, None, None]
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    return network.eval()


def make_view(
    folder: Path, name: str, regress: bool | None = None, experts: int = 2, norm: str = "instance"
) -> DistillView:
    """Return a view with random images, experts that walk at random, and targets if needed."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % CLASSES
    images = torch.randn(N, 1, SIZE, SIZE, generator=random) + labels[:, None, None, None]
    needs = registry.load("distill", name, "").needs(params_of(name))
    regress = "targets" in needs if regress is None else regress
    targets = torch.randn(N, 5, generator=random) if regress else None
    view = DistillView(
        real=Examples(images, labels, targets=targets),
        start=torch.cat([torch.arange(N)[labels == label][: M // CLASSES] for label in range(CLASSES)]),
        classes=CLASSES,
        model=MODEL,
        model_params=MODEL.params(depth=2, width=4, norm=norm),
        experts=(),
        root_seed=7,
        seed=0,
        device=torch.device("cpu"),
        checkpoint=folder / "checkpoint.safetensors",
        label="test",
        bounds=torch.tensor([[-2.0], [4.0]]),
        teachers=(make_self_supervised() if regress else make_teacher(),),
    )
    start = flat(view.network(0).parameters())
    paths = []
    for number in range(experts):
        walk = 0.1 * torch.randn(4, len(start), generator=random)
        paths.append(folder / f"expert_{number:03d}.safetensors")
        save_file({"weights": start + walk.cumsum(0)}, paths[-1])
    return replace(view, experts=tuple(paths))


def distill(
    name: str, folder: Path, variant: str | None = None, norm: str = "instance", **changes: Any
) -> Distilled:
    folder.mkdir(exist_ok=True)
    params = params_of(name, variant).model_copy(update=changes)
    found: Distilled = registry.load("distill", name, "").function(params, make_view(folder, name, norm=norm))
    return found
