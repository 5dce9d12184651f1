"""Images that stay in their shards: read at their place, decoded and resized when they are asked for.

Each image is reduced or enlarged (bicubic) until its shorter side fits, and cut to the middle, as open_clip
and torchvision do for evaluation: `Resize(size, BICUBIC)`, `CenterCrop(size)`.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from winnow.data.batch import Images, Labels
from winnow.data.pictures import MODES
from winnow.errors import UserError

if TYPE_CHECKING:
    import pandas

    from winnow.plan.catalogue import DatasetEntry

OPEN_FILES: Final = 64
WHOLE_LIMIT: Final = 4 << 30
"""Bytes beyond which all pixels at once are refused."""


class ImageSource(Protocol):
    """What `Dataset.images` returns: an array (n, h, w, c) of uint8, or something that reads like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class ShardImages:
    """Images (n, h, w, c) of uint8 that are decoded when they are asked for.

    index: one row per image with `shard` (its path below `data`), `offset` and `length` (bytes), and `key`
    (its name there). data: the folder with the downloads of all datasets. shape: (h, w, c). sizes: bytes of
    each shard when the index was made. An int gives one image (h, w, c); a slice, an index array or a mask
    gives an array (b, h, w, c). Safe to use from several processes.
    """

    dtype: Final = np.dtype(np.uint8)
    ndim: Final = 4

    def __init__(
        self, index: pandas.DataFrame, data: Path, shape: Sequence[int], sizes: dict[str, int]
    ) -> None:
        import pandas

        codes, names = pandas.factorize(index["shard"])
        self.names, self.codes = [str(name) for name in names], codes.astype(np.int32)
        self.offsets = index["offset"].to_numpy(np.int64)
        self.lengths = index["length"].to_numpy(np.int64)
        self.keys = index["key"].to_numpy(object)
        self.data, self.sizes = data, sizes
        self.shape = (len(index), *(int(size) for size in shape))
        self._open: OrderedDict[str, int] = OrderedDict()
        for name in self.names:
            _check_name(name, data)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Return the bytes of all pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any, /) -> Images:
        if isinstance(key, int | np.integer):
            place = int(key)
            if not -len(self) <= place < len(self):
                raise IndexError(f"image {place} of {len(self)}")
            return self._image(place % len(self))
        places = np.arange(len(self))[key]
        out = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        for row, place in enumerate(places):
            out[row] = self._image(int(place))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if self.nbytes > WHOLE_LIMIT:
            raise UserError(
                f"{self.data}: {len(self)} images of {self.shape[1:]} are {self.nbytes / 1e9:.1f} GB of "
                f"pixels, more than the {WHOLE_LIMIT / 1e9:.1f} GB that are held at once. Set `limits`, or "
                "use a trainer that streams."
            )
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def rows(self, rows: Labels) -> ShardImages:
        """Return some of the images, in this order, still in their shards."""
        part = object.__new__(ShardImages)
        part.__dict__.update(self.__getstate__())
        part.codes, part.offsets = self.codes[rows], self.offsets[rows]
        part.lengths, part.keys = self.lengths[rows], self.keys[rows]
        part.shape = (len(part.codes), *self.shape[1:])
        return part

    def encoded(self, place: int) -> bytes:
        """Return the bytes of one image as they lie in its shard."""
        offset, length = int(self.offsets[place]), int(self.lengths[place])
        pieces, handle = [], self._handle(self.names[self.codes[place]])
        while length:
            piece = os.pread(handle, length, offset)
            if not piece:
                raise UserError(f"{self._where(place)}: the shard ends before the image. {self._remedy()}")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the shards."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _image(self, place: int) -> Images:
        height, width, channels = self.shape[1:]
        try:
            with Image.open(io.BytesIO(self.encoded(place))) as image:
                picture = fitted(image.convert(MODES[channels]), width, height)
                return np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
        except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            raise UserError(
                f"{self._where(place)}: the image cannot be decoded ({error}). {self._remedy()}"
            ) from error

    def _where(self, place: int) -> str:
        return f"{self.data / self.names[self.codes[place]]}: sample '{self.keys[place]}'"

    def _remedy(self) -> str:
        return "The shard has changed since it was prepared: fetch it again."

    def _handle(self, name: str) -> int:
        """Return an open file; the one that was used longest ago is closed when there are many."""
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        path = self.data / name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be opened ({error.strerror}). Run `snakemake download` again."
            ) from error
        self._open[name] = handle
        size = os.fstat(handle).st_size
        if size != self.sizes.get(name, size):
            raise UserError(f"{path}: has {size} bytes, had {self.sizes[name]} bytes. {self._remedy()}")
        if len(self._open) > OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return handle


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return a picture whose shorter side is made to fit (bicubic), cut to the middle."""
    wide, high = picture.size
    if wide * height >= high * width:
        size = (max(width, int(height * wide / high)), height)
    else:
        size = (width, max(height, int(width * high / wide)))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((size[0] - width) / 2), round((size[1] - height) / 2))
    return picture.crop((left, top, left + width, top + height))


def joined(parts: Sequence[ShardImages]) -> ShardImages:
    """Return the images of several splits of a dataset, one after the other, still in their shards."""
    import pandas

    index = pandas.concat(
        [
            pandas.DataFrame(
                {
                    "shard": np.array(part.names, dtype=object)[part.codes],
                    "offset": part.offsets,
                    "length": part.lengths,
                    "key": part.keys,
                }
            )
            for part in parts
        ]
    )
    sizes = {name: size for part in parts for name, size in part.sizes.items()}
    return ShardImages(index, parts[0].data, parts[0].shape[1:], sizes)


def lazy_images(shards: Sequence[pandas.DataFrame], entry: DatasetEntry, data: Path) -> ShardImages:
    """Return the images of a split from the tables of its places."""
    import pandas

    assert entry.shape is not None, "the catalogue requires a shape for pairs"
    index = pandas.concat(shards).sort_index()
    sizes = {str(name): (data / str(name)).stat().st_size for name in index["shard"].unique()}
    return ShardImages(index, data, entry.shape, sizes)


def _check_name(name: str, data: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{data}: the shard '{name}' lies outside this folder. Prepare the dataset again.")
