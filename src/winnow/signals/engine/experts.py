"""What expert trajectories say of every example."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from winnow import registry
from winnow.errors import UserError
from winnow.plan.specs import TrainSpec
from winnow.signals.engine.view import Proxy, SignalView
from winnow.store import read_json, verified
from winnow.train.engine.classifier import Classifier, assemble
from winnow.train.engine.features import features
from winnow.train.engine.space import Space
from winnow.train.engine.trajectory import read_epochs


def mean_losses(view: SignalView, epoch: int) -> np.ndarray:
    """Return the loss of each example, (n,) float32, averaged over all experts after an epoch."""
    targets = view.signals.get("targets")
    labels = torch.from_numpy(view.data.pool_labels())
    wanted = labels if targets is None else torch.tensor(np.asarray(targets), dtype=torch.float32)
    if targets is None and bool((labels < 0).any()):
        raise UserError(f"expert_losses: some examples of {view.data.name} have no label")
    images, found = view.data.pool_images(), []
    for proxy in view.proxies:
        space = Space.of(view.data, proxy.device)
        names = sorted(path.name for path in (proxy.folder / f"s{proxy.seed}").glob("expert_*.safetensors"))
        if not names:
            raise UserError(f"{proxy.folder}: no expert trajectories; give `experts` the trainer experts.")
        model = _network(view, proxy, 1 if targets is None else wanted.shape[1], targets is None)
        for name in names:
            (weights,) = read_epochs(verified(proxy.folder, f"s{proxy.seed}/{name}"), (epoch,))
            size = sum(parameter.numel() for parameter in model.parameters())
            if len(weights) != size:
                raise UserError(
                    f"{proxy.folder}: experts have {len(weights)} weights, a network for these targets or"
                    f" labels {size}; give both the same `targets`."
                )
            vector_to_parameters(weights, model.parameters())
            found.append(_losses(features(model.to(proxy.device), images, space), wanted))
            model.cpu()
    return torch.stack(found).mean(0).numpy()


def _network(view: SignalView, proxy: Proxy, width: int, by_class: bool) -> Classifier:
    spec = TrainSpec.model_validate(read_json(verified(proxy.folder, "spec.json")))
    model = registry.load("models", spec.model.name, f"{proxy.folder}/spec.json: model.name")
    size, _, channels = view.data.shape
    outputs = len(view.data.classes) if by_class else width
    return assemble(model, model.params(**spec.model.params), channels, size, outputs)


def _losses(outputs: Tensor, wanted: Tensor) -> Tensor:
    if wanted.ndim == 1:
        return functional.cross_entropy(outputs, wanted, reduction="none")
    return (outputs - wanted).square().mean(1)
