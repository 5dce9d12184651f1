"""Encoded images (JPEG, PNG, WebP, ...) to arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, UnidentifiedImageError

from winnow.data.batch import Images
from winnow.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(encoded: bytes, shape: tuple[int, int, int], resize: bool, where: str) -> Images:
    """Return the image as uint8 of `shape` (h, w, c).

    Grey images become RGB where c is 3.
    An image of another size is resized (bicubic) if `resize`, or refused.
    """
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.size != (width, height) and not resize:
                raise UserError(
                    f"{where}: the image has {image.size[1]}x{image.size[0]} pixels, datasets.yaml states "
                    f"{height}x{width}. Mend `shape` or set `resize: true`."
                )
            picture = image.convert(_MODES[channels])
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BICUBIC)
            return np.asarray(picture, dtype=np.uint8).reshape(shape)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: the image cannot be decoded ({error}).") from error


def decode_all(encoded: Iterable[tuple[str, bytes]], shape: tuple[int, int, int], resize: bool) -> Images:
    """Return the images as one uint8 array (b, h, w, c); each comes with the name to use in an error."""
    return np.stack([decode(content, shape, resize, where) for where, content in encoded])
