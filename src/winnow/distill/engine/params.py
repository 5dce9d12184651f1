"""Parameter groups that methods of distillation share. Imports no torch: the planner reads them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from winnow.registry import Params
from winnow.train.engine.options import TRANSFORMS, Precision, Strategy

ALL = "_".join(TRANSFORMS)


class PixelParams(Params):
    """How pixels are learned, by SGD. init: what they start from, the real examples or Gaussian noise."""

    iterations: int = Field(default=5000, ge=1)
    lr_images: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    init: Literal["real", "noise"] = "real"
    augment: Strategy = ALL


class TrajectoryParams(PixelParams):
    """How students follow experts.

    student_steps: steps N of the student. expert_epochs: epochs M of the expert that these stand for.
    max_start: the first epoch that no student starts from. batch_size: synthetic examples per step (None:
    all). step_size: what the learned step size starts from. lr_labels: of soft labels or targets; 0 leaves
    them as they are. min_start: the first epoch that students start from; their range grows from
    `first_max_start` to `max_start` until iteration `grow_until` (None: the last). labels: as given, or soft
    ones from experts, which choose the images too (see `softened`). momentum_labels: None is that of the
    images. skip_above: a loss above it moves nothing. average: the running average of the images is what is
    returned, with this memory. gradient: `exact`, or `frozen` as TESLA computes it. experts: which of them
    are followed. memory: `recursion` through kept weights, or the `graph` of all steps.
    """

    student_steps: int = Field(default=30, ge=1)
    expert_epochs: int = Field(default=2, ge=1)
    max_start: int = Field(default=15, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    step_size: float = Field(default=0.01, gt=0)
    lr_step_size: float = Field(default=1e-5, ge=0)
    lr_labels: float = Field(default=0.0, ge=0)
    min_start: int = Field(default=0, ge=0)
    first_max_start: int | None = Field(default=None, ge=1)
    grow_until: int | None = Field(default=None, ge=1)
    labels: Literal["given", "experts"] = "given"
    momentum_labels: float | None = Field(default=None, ge=0, lt=1)
    skip_above: float | None = Field(default=None, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    gradient: Literal["exact", "frozen"] = "exact"
    experts: Literal["all", "first"] = "all"
    memory: Literal["recursion", "graph"] = "recursion"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_start >= (self.first_max_start or self.max_start):
            raise ValueError("min_start: accepted: below first_max_start and max_start")
        return self


class DistributionParams(PixelParams):
    """batch_real: real images per class and iteration. precision: of their forward pass."""

    iterations: int = Field(default=20_000, ge=1)
    batch_real: int = Field(default=256, ge=1)
    precision: Precision = "auto"


class GradientParams(PixelParams):
    """How networks that train on the synthetic set compare its gradients with real ones.

    Every network is compared `rounds` times and trained for `epochs` epochs on the synthetic set in
    between, at rate `lr_network`, with `momentum_network` and `decay_network`; `cutmix` is the share of
    its batches in which patches of other images are mixed. batch_real: real images per class and
    comparison. together: compare the gradient of all classes as one, from round `warm_up` of each network
    on, and in all rounds from network `warm_up_iterations` on. metric: 1 - cosine per output channel, or
    the squared distance of convolutions alone. factor: each synthetic image holds factor^2 small ones.
    train_on: networks may be trained on so many real images instead, drawn anew every time.
    cluster_every: instead of random real images take, anew after so many rounds, those nearest to the
    centres of as many clusters in the network's features; the set then starts from such images too.
    """

    iterations: int = Field(default=1000, ge=1)
    lr_images: float = Field(default=0.1, gt=0)
    rounds: int = Field(default=10, ge=1)
    epochs: int = Field(default=50, ge=0)
    lr_network: float = Field(default=0.01, gt=0)
    momentum_network: float = Field(default=0.0, ge=0, lt=1)
    decay_network: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0, le=1)
    batch_train: int = Field(default=256, ge=1)
    batch_real: int = Field(default=256, ge=1)
    together: bool = False
    warm_up: int = Field(default=0, ge=0)
    warm_up_iterations: int = Field(default=0, ge=0)
    metric: Literal["cosine", "squared"] = "cosine"
    factor: int = Field(default=1, ge=1, le=8)
    train_on: int | None = Field(default=None, ge=1)
    cluster_every: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _is_reached(self) -> Self:
        late = self.warm_up >= self.rounds and self.warm_up_iterations >= self.iterations
        if self.together and late:
            raise ValueError("warm_up, warm_up_iterations: classes would never be compared together")
        return self
