"""Embeddings of a pool: of its images, averaged over augmented views, and of its captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from winnow.data.lazy import ImageSource
from winnow.errors import UserError
from winnow.seeds import derive
from winnow.signals.engine.view import Proxy, SignalView
from winnow.train.engine.features import BATCH, features
from winnow.train.engine.resize import resized

if TYPE_CHECKING:
    from winnow.signals.embeddings import EmbeddingParams
    from winnow.train.engine.options import Names


def encode(params: EmbeddingParams, view: SignalView) -> np.ndarray:
    """Return mean unit-norm embeddings of the pool, (n, d) float32."""
    trained = view.proxies[0].load()
    model = trained.encoder if params.layer == "backbone" or hasattr(trained, "text") else trained
    space = view.proxies[0].space
    images = view.data.pool_images()
    if not params.augment_views:
        return functional.normalize(features(model, images, space), dim=1).numpy()
    from winnow.train.engine.augment import build_augmentation

    augment = build_augmentation(params.augment, images.shape[3], images.shape[1])
    total = torch.zeros(1)
    for draw in range(params.augment_views):
        torch.manual_seed(derive(view.root_seed, "augmentation", view.seed, "signal", draw))
        total = total + functional.normalize(features(model, images, space, augment), dim=1)
    return (total / params.augment_views).numpy()


def image_features(proxy: Proxy, split: str | None = None) -> np.ndarray:
    """Return unit-norm features of the images of the pool, or of a split, (n, d) float32."""
    images = proxy.data.pool_images() if split is None else proxy.data.images(split)
    found = features(proxy.load().encoder, images, proxy.space)
    return functional.normalize(found, dim=1).numpy()


def features_of_others(proxy: Proxy, images: ImageSource) -> np.ndarray:
    """Return the same of images of any size, (n, d) float32; they are resized to what the proxy sees."""
    encoder, space = proxy.load().encoder, proxy.space
    parts = (np.asarray(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
    found = [features(encoder, resized(part, proxy.data.shape), space) for part in parts]
    return functional.normalize(torch.cat(found), dim=1).numpy()


def caption_features(proxy: Proxy) -> np.ndarray:
    """Return unit-norm features of the pool's captions, (n, d) float32: of several, their mean at norm 1."""
    from winnow.train.engine.image_text import text_features

    captions = proxy.data.pool_captions()
    found = text_features(towers(proxy), [text for own in captions for text in own])
    ends = np.cumsum([len(own) for own in captions])
    if len(found) == len(captions):
        return found
    means = np.add.reduceat(found, ends - [len(own) for own in captions], axis=0)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def class_prompts(proxy: Proxy, templates: tuple[str, ...], names: Names) -> np.ndarray:
    """Return one unit-norm row per class, (classes, d) float32."""
    import open_clip

    from winnow.train.engine.image_text import class_features

    classes = open_clip.IMAGENET_CLASSNAMES if names == "imagenet" else proxy.data.classes
    if not classes:
        raise UserError(f"{proxy.data.name} has no classes to name; set `names: imagenet` of the signal.")
    return class_features(towers(proxy), classes, templates)


def towers(proxy: Proxy) -> Any:
    """Return the proxy; one without a text tower is an error."""
    model = proxy.load()
    if not hasattr(model, "text"):
        raise UserError(f"{proxy.folder}: the proxy reads no captions; give `proxy` the trainer clip.")
    return model


def representations(proxy: Proxy) -> np.ndarray:
    """Return the encoder's outputs for the pool, (n, d) float32."""
    space = proxy.space
    return features(proxy.load().encoder, proxy.data.pool_images(), space).numpy()
