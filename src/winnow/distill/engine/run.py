"""Run a distillation job: `s<seed>/synthetic.safetensors`, its history, and pictures of it on the way."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from winnow import registry
from winnow.data.dataset import Dataset
from winnow.distill.engine.gallery import draw_gallery
from winnow.distill.engine.learned import Distilled
from winnow.distill.engine.view import DistillView
from winnow.errors import UserError
from winnow.plan.specs import DistillSpec
from winnow.stage import Job
from winnow.store import Artefact, load_array, verified, write_json
from winnow.tables import read_table, write_table
from winnow.train.engine.device import pick_device
from winnow.train.engine.memory import keep_freed_memory
from winnow.train.engine.recipe import Examples
from winnow.train.engine.space import Space
from winnow.train.engine.task import to_tensor
from winnow.train.engine.teacher import load_teacher
from winnow.train.engine.trained import load_trained


def distill_all(job: Job[DistillSpec], artefact: Artefact) -> None:
    """Distill for every repetition of the spec; a killed job goes on from its last checkpoint."""
    spec, device = job.spec, pick_device(job.device)
    method = registry.load("distill", spec.method.name, "spec: method.name")
    params = method.params(**spec.method.params)
    data = Dataset.open(job.input(spec.data))
    space = Space.of(data, device)
    for seed in spec.seeds:
        keep_freed_memory()
        with artefact.timed(seed) as cost:
            view = _view(job, data, seed, device, artefact, space)
            found: Distilled = method.function(params, view)
            _check(found, spec, view.label)
            folder = artefact.folder(seed)
            seen = "plain" if space.whitening is None else "zca"
            found.given.save(folder / "synthetic.safetensors", seen)
            write_table(folder / "history.parquet", found.history)
            pictures = space.picture(found.snapshots.to(device)).cpu()
            draw_gallery(pictures, found.labels, found.iterations, folder / "preview.png")
            facts = {
                "n": len(found.given.labels),
                "bytes_of_labels": found.given.bytes_of_labels,
                "step_size": found.given.step_size,
                "whitened": space.whitening is not None,
            }
            write_json(folder / "facts.json", facts)
            cost.wall_s += view.cost.wall_s
            cost.cpu_s += view.cost.cpu_s
    artefact.facts["device_used"] = str(device)


def _view(
    job: Job[DistillSpec],
    data: Dataset,
    seed: int,
    device: torch.device,
    artefact: Artefact,
    space: Space,
) -> DistillView:
    spec = job.spec
    model = registry.load("models", spec.model.name, "spec: model.name")
    targets = None
    if "targets" in spec.uses:
        targets = load_array(job.input(spec.uses["targets"]), f"s{seed}/signal.npy")
    teachers = [job.input(ref) for name, ref in spec.uses.items() if name.startswith("model")]
    real = Examples(
        space(to_tensor(data.pool_images(), device)).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(data.pool_labels()).to(device),
        targets=None if targets is None else torch.tensor(targets, dtype=torch.float32, device=device),
    )
    chosen = read_table(verified(job.input(spec.start), f"s{seed}/subset.parquet"))["index"][: spec.budget]
    experts = [job.input(ref) for name, ref in spec.uses.items() if name.startswith("expert")]
    return DistillView(
        real=real,
        start=torch.tensor(chosen.to_numpy(), dtype=torch.int64),
        classes=len(data.classes),
        model=model,
        model_params=model.params(**spec.model.params),
        experts=tuple(
            verified(folder, str(path.relative_to(folder)))
            for folder in experts
            for path in sorted((folder / f"s{seed}").glob("expert_*.safetensors"))
        ),
        root_seed=spec.root_seed,
        seed=seed,
        device=device,
        checkpoint=artefact.checkpoints / f"s{seed}.safetensors",
        label=f"{job.output.name} s{seed}",
        bounds=_bounds(space),
        teachers=tuple(_teacher(folder, seed, data, targets is None) for folder in teachers),
        data=data,
    )


def _teacher(folder: Path, seed: int, data: Dataset, classifies: bool) -> nn.Module:
    """Load the network that a method asks: for classes, or for what students regress on."""
    if classifies:
        return load_teacher(folder, seed, data)
    return load_trained(folder, seed, data).get_submodule("encoder")


def _bounds(space: Space) -> Tensor:
    """Return what black and white pixels are to networks, (2, c); whitened numbers have no bounds."""
    ends = torch.stack([-space.mean / space.std, (1 - space.mean) / space.std])
    if space.whitening is None:
        return ends
    return torch.stack([torch.full_like(ends[0], -torch.inf), torch.full_like(ends[1], torch.inf)])


def _check(found: Distilled, spec: DistillSpec, label: str) -> None:
    """Refuse a set that is not what was asked for."""
    if len(found.given.images) != spec.budget:
        raise UserError(f"{label}: {len(found.given.images)} examples were made, the budget is {spec.budget}")
    if not bool(torch.isfinite(found.given.images).all()):
        raise UserError(f"{label}: some pixels are not finite; lower `lr_images` in the suite")
