"""Encoded images (JPEG, PNG, WebP, ...) to arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from winnow.data.batch import Images
from winnow.errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WHITE = (255, 255, 255)

Fit = Literal["stretch", "pad"]


def decode(
    encoded: bytes, shape: tuple[int, int, int], resize: bool, where: str, fit: Fit = "stretch"
) -> Images:
    """Return the image as uint8 of `shape` (h, w, c).

    Grey images become RGB where c is 3; where c is not 4, transparent parts become white. An image of another
    size is resized (bicubic) if `resize`, or refused. `fit` says what becomes of other proportions: they are
    stretched, or kept by white borders of equal width on both sides.
    """
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.size != (width, height) and not resize:
                raise UserError(
                    f"{where}: the image has {image.size[1]}x{image.size[0]} pixels, datasets.yaml states "
                    f"{height}x{width}. Mend `shape` or set `resize: true`."
                )
            picture = _opaque(image) if channels < 4 else image
            picture = picture.convert(MODES[channels])
            if fit == "pad":
                picture = _padded(picture, width, height)
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BICUBIC)
            return np.asarray(picture, dtype=np.uint8).reshape(shape)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: the image cannot be decoded ({error}).") from error


def _opaque(image: Image.Image) -> Image.Image:
    """Return the image on white if parts of it are transparent, else as it is."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*_WHITE, 255)), layer).convert("RGB")


def _padded(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return the picture with white borders that give it the proportions width : height."""
    across, down = picture.size
    full = (max(across, round(down * width / height)), max(down, round(across * height / width)))
    if full == (across, down):
        return picture
    board = Image.new(picture.mode, full, "white")
    board.paste(picture, ((full[0] - across) // 2, (full[1] - down) // 2))
    return board


def decode_all(
    encoded: Iterable[tuple[str, bytes]],
    shape: tuple[int, int, int],
    resize: bool,
    fit: Fit = "stretch",
) -> Images:
    """Return the images as one uint8 array (b, h, w, c); each comes with the name to use in an error."""
    return np.stack([decode(content, shape, resize, where, fit) for where, content in encoded])
