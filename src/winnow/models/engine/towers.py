"""The two towers of a CLIP model, as open_clip builds them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from winnow.errors import UserError, unknown

CONFIGS = Path(__file__).parent.parent / "clip_configs"
LARGEST_SCALE = 100.0
"""Bound on the factor of the similarities (Radford et al. 2021, section 2.5)."""

READ_AT_ONCE = 4096
RESNET_STRIDE = 32
"""Pixels of an image between two places in the last map of CLIP's residual networks."""


class ImageTower(nn.Module):
    """Images (b, c, h, w) to features (b, d); grey images become three equal channels."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.visual(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)
        return features


class Towers(nn.Module):
    """Image tower, text tower, and the factor that similarities are multiplied by before the softmax.

    parts: with more than one, a batch passes through in as many pieces whose activations are computed anew in
    the backward pass, so that memory holds one piece and the loss still sees the whole batch. Batch norm then
    takes its statistics over a piece.
    """

    parts = 1

    def __init__(
        self, encoder: ImageTower, text: nn.Module, logit_scale: nn.Parameter, read: open_clip.SimpleTokenizer
    ) -> None:
        super().__init__()
        self.encoder, self.text, self.logit_scale, self.read = encoder, text, logit_scale, read

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Return captions as tokens, int32 (n, length), cut and padded with 0."""
        unique, place = np.unique(np.array(captions, dtype=str), return_inverse=True)
        parts = np.array_split(unique, len(unique) // READ_AT_ONCE + 1)
        return torch.cat([self.read(part.tolist()).int() for part in parts])[torch.from_numpy(place.ravel())]

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return unit-norm features (b, 2, d) float32 of images (b, c, h, w) and tokens (b, length)."""
        if self.parts == 1:
            return self._encode(images, tokens)
        pieces = zip(images.chunk(self.parts), tokens.chunk(self.parts), strict=True)
        return torch.cat([checkpoint(self._encode, *piece, use_reentrant=False) for piece in pieces])

    def _encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        return torch.stack([self.encode_images(images), self.encode_texts(tokens)], dim=1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit-norm features (b, d) float32."""
        return nn.functional.normalize(self.encoder(images).float(), dim=1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Return unit-norm features (b, d) float32."""
        return nn.functional.normalize(self.text(tokens).float(), dim=1)


def build_towers(architecture: str, context: int | None, size: int) -> Towers:
    """Return an untrained model for square images of `size` pixels; its weights are torch's next draws.

    Raises `UserError` where the image tower leaves nothing of images so small.
    """
    name = _known(architecture)
    least = _least_pixels(name)
    if size < least:
        raise UserError(
            f"model clip: architecture {name} needs images of at least {least} pixels, not {size}"
        )
    logging.disable(logging.WARNING)  # open_clip warns that a new model has no pretrained weights
    try:
        model = open_clip.create_model(
            name,
            force_custom_text=True,
            force_image_size=size,
            force_context_length=context,
            load_weights=False,
        )
    finally:
        logging.disable(logging.NOTSET)
    read = open_clip.get_tokenizer(name, context_length=context)
    return Towers(ImageTower(model.visual), model.text, model.logit_scale, read)


def _least_pixels(name: str) -> int:
    """Return the size of image that becomes one place: of a vision transformer a patch."""
    vision = open_clip.get_model_config(name)["vision_cfg"]
    return RESNET_STRIDE if isinstance(vision.get("layers"), list) else vision.get("patch_size") or 1


@functools.cache
def _known(architecture: str) -> str:
    open_clip.add_model_config(CONFIGS)
    if architecture not in open_clip.list_models():
        raise unknown(
            "architecture", architecture, open_clip.list_models(), "model clip: params.architecture"
        )
    text = open_clip.get_model_config(architecture)["text_cfg"]
    if "hf_model_name" in text or "hf_tokenizer_name" in text:
        raise UserError(
            f"model clip: params.architecture: '{architecture}' takes its text tower or tokenizer from a"
            " hub; choose one that is built and read here, such as RN50 or ViT-B-32."
        )
    return architecture
