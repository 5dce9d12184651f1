"""Linear models of pairs of vectors in closed form, float64, and what their trainers share.

For centred images x and captions t (n rows) with cross-covariance C = x^T t / n, linear multimodal
contrastive learning minimises (arXiv 2310.04971)

    L(W_I, W_T) = -Tr(W_I C W_T^T) + rho / 2 |W_I^T W_T|_F^2

over W_I (p, d_I) and W_T (p, d_T). Completing the square gives rho / 2 |W_I^T W_T - C / rho|_F^2 plus a
constant, so at the minimum W_I^T W_T is the best approximation of C / rho of rank p: its truncated singular
value decomposition (Eckart and Young).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from winnow.errors import UserError
from winnow.models.linear import LinearParams
from winnow.store import save_array, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from winnow.train.engine.task import Task

Floats = npt.NDArray[np.float64]


class Sample(NamedTuple):
    """The rows to train on: images, captions and class prompts (n, d) each, labels (n,), of so many
    classes.
    """

    images: Floats
    captions: Floats
    prompts: Floats
    labels: npt.NDArray[np.int64]
    classes: int


def cross_covariance(images: Floats, captions: Floats) -> Floats:
    """Return the centred cross-covariance (d_I, d_T) of n rows, with divisor n; O(n d_I d_T)."""
    product: Floats = (images - images.mean(axis=0)).T @ (captions - captions.mean(axis=0))
    return product / len(images)


def contrastive_minimiser(covariance: Floats, rank: int, rho: float) -> tuple[Floats, Floats]:
    """Return W_I (rank, d_I) and W_T (rank, d_T) at which L is least; their split is the balanced one."""
    left, values, right = np.linalg.svd(covariance, full_matrices=False)
    root = np.sqrt(values[:rank] / rho)[:, None]
    return root * left.T[:rank], root * right[:rank]


def contrastive_loss(image: Floats, text: Floats, covariance: Floats, rho: float) -> float:
    """Return L of W_I `image` (p, d_I) and W_T `text` (p, d_T)."""
    product = image.T @ text
    return float(-np.sum(product * covariance) + rho / 2 * np.sum(product**2))


def contrastive_gradient(
    image: Floats, text: Floats, covariance: Floats, rho: float
) -> tuple[Floats, Floats]:
    """Return the gradients of L with respect to W_I and W_T."""
    residual = rho * image.T @ text - covariance
    return text @ residual.T, image @ residual


def least_squares(images: Floats, labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """Return the weights (d, classes) of least norm among those that fit centred one-hot labels best.

    It interpolates where n <= d.
    """
    targets = np.eye(classes)[labels]
    solution = np.linalg.lstsq(images - images.mean(axis=0), targets - targets.mean(axis=0), rcond=None)[0]
    return np.asarray(solution)


def class_means(vectors: Floats, labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """Return the mean of each class's rows, (classes, d); 0 for a class without any."""
    sums = np.zeros((classes, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    means: Floats = sums / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    return means


def sample_of(task: Task) -> Sample:
    """Return the task's rows; raises `UserError` if they are not vectors or are weighted."""
    if task.pixels.shape[1:3] != (1, 3):
        raise UserError(f"{task.label}: linear trainers need data of `kind: vectors`; choose such a dataset.")
    if task.weights is not None or task.rounds != 1:
        raise UserError(f"{task.label}: linear trainers take no weights or rounds; choose another method.")
    rows = task.rows.cpu()
    vectors = task.pixels.cpu()[rows, 0].double().numpy()
    labels = task.labels.cpu()[rows].numpy()
    return Sample(vectors[:, 0], vectors[:, 1], vectors[:, 2], labels, task.classes)


def rank_of(task: Task, largest: int) -> int:
    """Return the rank that the model asks for, at most `largest`."""
    if not isinstance(task.model_params, LinearParams):
        raise UserError(f"{task.label}: linear trainers train the model `linear`; name it in `model`.")
    rank = task.model_params.rank or largest
    if rank > largest:
        raise UserError(f"{task.label}: model linear: rank {rank}; accepted: 1 to {largest}.")
    return rank


def save_linear(task: Task, weights: dict[str, Floats], score: Callable[[Floats], Floats]) -> None:
    """Write the weights, and the logits of each split that the model is measured on.

    score: from images (n, d) to logits (n, classes).
    """
    task.out.mkdir(parents=True, exist_ok=True)
    write_atomic(
        task.out / "model.safetensors", save({k: np.ascontiguousarray(v) for k, v in weights.items()})
    )
    for split, held in task.heldout().items():
        save_array(task.out / f"{split}_logits.npy", score(_images(held)).astype(np.float32))


def _images(held: Tensor) -> Floats:
    return np.asarray(held.cpu()[:, 0, 0].double().numpy())
