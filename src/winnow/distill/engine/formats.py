"""Distilled sets in the forms in which others publish them, read without running anything in the file.

- `.pt`, `.pth`: a dict with images and labels under any usual name; `{"data": [[images, labels], ...]}`,
  a pair per experiment (DC, DSA, DM); a pair; images alone, with labels in a second file (MTT, DATM).
- `.npz`, `.safetensors`: arrays under the usual names.
- a folder with one folder of pictures per class, named by the class or its number (`3`, `new003`, `class_3`).
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from winnow.canonical import canonical_json, sha256_file, sha256_text
from winnow.errors import UserError, one_of
from winnow.stage import log

IMAGES = ("images", "image", "data", "x", "syn_images", "image_syn", "images_best", "x_syn", "imgs")
SOFT = ("soft", "soft_labels", "soft_label")
LABELS = (
    *SOFT,
    "labels",
    "label",
    "targets",
    "target",
    "y",
    "syn_labels",
    "label_syn",
    "labels_best",
    "y_syn",
)
"""The names of labels: soft ones first, for a file that has both."""
RATES = ("lr", "syn_lr", "lr_syn", "lr_best", "synthetic_lr", "step_size")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
Pair = tuple[Tensor, Tensor | None]


def read_pair(
    path: Path, labels: Path | None, experiment: int, classes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return images (n, c, h, w) and labels, (n,) or (n, classes), as they are in the file or folder.

    labels: a second file with the labels. experiment: which pair of a file with several. Images stay uint8
    where they are, all else becomes float32. Raises `UserError` where there is no such pair.
    """
    if path.is_dir():
        images, found = _folder(path, classes)
    else:
        images, found = _pair(_content(path), path, experiment)
    if labels is not None:
        found, _ = _pair(_content(labels), labels, experiment, of_labels=True)
    if found is None:
        raise UserError(f"{path}: has images alone; name the file with the labels: --labels FILE")
    images = _channels_first(images, path)
    if not len(images):
        raise UserError(f"{path}: holds no images.")
    if len(images) != len(found):
        raise UserError(f"{path}: {len(images)} images, but {len(found)} labels.")
    return images, found


def read_rate(path: Path) -> float:
    """Return the learned step size in a file: the only number in it, or the one beside a set's images.

    Raises `UserError` where there is none, or it is no learning rate.
    """
    content = _content(path)
    if isinstance(content, Mapping):
        lower = {str(key).lower(): value for key, value in content.items()}
        content = next((lower[name] for name in RATES if name in lower), None)
    elif isinstance(content, list | tuple) and len(content) == 3 and _is_pair(content):
        content = content[2]
    try:
        rate = float(torch.as_tensor(content).detach().reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: holds no learned step size. Accepted: a file with one number, or a set with one beside "
            f"its images ({one_of(RATES)})."
        ) from error
    if not 0 < rate < float("inf"):
        raise UserError(f"{path}: a step size of {rate:g} is none to train with.")
    return rate


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, or of the names and digests of all files in a folder; "" of nothing."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256_text(canonical_json([[str(f.relative_to(path)), sha256_file(f)] for f in files]))
    return sha256_file(path) if path.is_file() else ""


def _content(path: Path) -> Any:
    """Return what a file holds: tensors, arrays, and lists and dicts of them."""
    readers = {".npz": _npz, ".npy": _npy, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if path.suffix not in readers:
        raise UserError(
            f"{path}: unknown form. Accepted: a folder, or a file that ends in {one_of(readers)}."
        )
    if not path.is_file():
        raise UserError(f"{path}: is not there.")
    return readers[path.suffix](path)


def _npz(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from error


def _npy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from error


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be read ({error}).") from error


def _torch(path: Path) -> Any:
    """Load tensors, numbers and texts; anything else in the file could run code and is refused."""
    with torch.serialization.safe_globals(_harmless()):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path}: holds more than tensors and numbers{_culprits(path)}, and is not loaded: it could "
                "run code. Save images and labels as tensors alone."
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise UserError(f"{path}: cannot be read ({reason}).") from error


def _culprits(path: Path) -> str:
    """Return the names in a file that are not loaded, in brackets, where the file lists them."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
        return ""
    return f" ({one_of(found)})" if found else ""


def _harmless() -> list[Any]:
    """Return what NumPy's numbers and arrays are made of, by the names that files of any age use, and the
    settings of a command, which some releases save beside their images.
    """
    rebuilt = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]
    names = [("scalar", rebuilt[0]), ("_reconstruct", rebuilt[1])]
    old = [(part, f"numpy.core.multiarray.{name}") for name, part in names]
    kinds = [type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *"efd?U")]
    return [*rebuilt, *old, np.ndarray, np.dtype, *kinds, argparse.Namespace]


def _pair(content: Any, path: Path, experiment: int, of_labels: bool = False) -> tuple[Any, Tensor | None]:
    """Return (images, labels or None) of a file; of a file with labels alone, (labels, None)."""
    if isinstance(content, Mapping):
        names = LABELS if of_labels else IMAGES
        lower = {str(key).lower(): value for key, value in content.items()}
        first = next((lower[name] for name in names if name in lower), None)
        if first is None:
            raise UserError(f"{path}: none of {one_of(names)} is in it, but {one_of(content)}.")
        second = None if of_labels else next((lower[name] for name in LABELS if name in lower), None)
        if second is not None and not _holds_lists(first):
            return _tensor(first, path), _tensor(second, path)
        content = first
    if of_labels:
        return _tensor(content, path), None
    if _holds_lists(content):
        if not 0 <= experiment < len(content):
            raise UserError(f"{path}: --experiment {experiment}: it holds {len(content)}, from 0.")
        if len(content) > 1:
            log(f"{path}: holds {len(content)} sets, of which number {experiment} is read (--experiment)")
        content = content[experiment]
    if _is_pair(content):
        return _tensor(content[0], path), _tensor(content[1], path)
    return _tensor(content, path), None


def _holds_lists(value: Any) -> bool:
    """Return whether these are several sets, and not a list of images beside labels."""
    if not (isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)):
        return False
    images, *labels = value
    return not (_depth(images) == 4 and bool(labels) and _depth(labels[0]) in (1, 2))


def _is_pair(value: Any) -> bool:
    """Return whether these are images with labels, and maybe a step size."""
    if not isinstance(value, list | tuple) or len(value) not in (2, 3):
        return False
    is_number = len(value) == 2 or _depth(value[2]) == 0 or (_depth(value[2]) == 1 and len(value[2]) == 1)
    return _depth(value[1]) in (1, 2) and is_number


def _depth(value: Any) -> int:
    """Return the dimensions of an array, or of a list by its first part."""
    if isinstance(value, list | tuple):
        return 1 + (_depth(value[0]) if value else 0)
    return int(np.ndim(value))


def _tensor(value: Any, path: Path) -> Tensor:
    """Return an array, or a list of numbers or of arrays that are alike: uint8, int64 or float32."""
    try:
        is_list = isinstance(value, list | tuple) and bool(value) and np.ndim(value[0]) > 0
        tensor = torch.stack([torch.as_tensor(part) for part in value]) if is_list else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = "its parts are not alike" if isinstance(value, list | tuple) else "it is no array of numbers"
        raise UserError(f"{path}: a {type(value).__name__} cannot be read: {reason}.") from error
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise UserError(f"{path}: a sparse or quantised tensor; save it as a plain one.")
    if tensor.dtype in (torch.uint8, torch.int64):
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _channels_first(images: Tensor, path: Path) -> Tensor:
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise UserError(
            f"{path}: images of shape {tuple(images.shape)}; accepted: (n, c, h, w) or (n, h, w, c)."
        )
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    return images.contiguous()


def _folder(path: Path, classes: Sequence[str]) -> Pair:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
    images, labels = [], []
    for folder in folders:
        pictures = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURES]
        labels += [_class_number(folder, classes)] * len(pictures) if pictures else []
        images += [_picture(file) for file in pictures]
    if not images:
        raise UserError(
            f"{path}: no folder in it holds pictures ({one_of(PICTURES)}); one per class is expected."
        )
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"{path}: pictures of different sizes: {one_of(shapes)}.")
    return torch.stack(images), torch.tensor(labels)


def _class_number(folder: Path, classes: Sequence[str]) -> int:
    names = [name.casefold() for name in classes]
    if folder.name.casefold() in names:
        return names.index(folder.name.casefold())
    number = re.fullmatch(r"(?:new|class)?[ _-]?([0-9]+)", folder.name, re.IGNORECASE)
    if number and int(number[1]) < len(classes):
        return int(number[1])
    raise UserError(f"{folder}: is no class. Accepted: 0 to {len(classes) - 1}, {one_of(classes)}.")


def _picture(file: Path) -> Tensor:
    try:
        with Image.open(file) as image:
            pixels = np.array(image if image.mode == "L" else image.convert("RGB"))
    except OSError as error:
        raise UserError(f"{file}: is not a picture that can be read ({error}).") from error
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)
