"""Aircraft, birds, dogs and flowers: small archives in the published layouts, read by the real entries."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from test_readers import encoded, equal, flat, means, published, read, tar

from winnow.data.arrays import ArrayRef, load_array
from winnow.data.batch import Batch
from winnow.data.listed import named_by
from winnow.errors import UserError


def picture(level: int) -> bytes:
    """Return a plain JPEG of another size than the entries ask for."""
    return encoded(flat(level, 50), "JPEG")


def matlab(**arrays: Any) -> bytes:
    target = io.BytesIO()
    savemat(target, arrays)
    return target.getvalue()


def cells(*texts: str) -> np.ndarray:
    """Return texts as MATLAB keeps a column of cells."""
    found = np.empty((len(texts), 1), dtype=object)
    found[:, 0] = texts
    return found


def aircraft(tmp_path: Path, **changes: bytes) -> dict[str, Batch]:
    root = "fgvc-aircraft-2013b/data"
    members = {f"{root}/images/{7 * k:07d}.jpg": picture(10 * k) for k in range(1, 6)} | {
        f"{root}/variants.txt": b"F/A-18\nModel B200\n",
        f"{root}/images_variant_trainval.txt": b"0000021 Model B200\n0000007 F/A-18\n0000014 Model B200\n",
        f"{root}/images_variant_test.txt": b"0000035 F/A-18\n",
    }
    path = tar(
        tmp_path / "fgvc-aircraft-2013b.tar.gz",
        members | {f"{root}/{name}.txt": content for name, content in changes.items()},
    )
    return read(published("fgvc_aircraft"), archive=path)


def test_aircraft_are_those_that_the_lists_name_and_variants_have_spaces(tmp_path: Path) -> None:
    splits = aircraft(tmp_path)
    assert means(splits["train"]) == [10, 20, 30] and means(splits["test"]) == [50]
    assert equal(splits["train"].labels, [0, 1, 1]) and equal(splits["test"].labels, [0])
    assert splits["train"].classes == ("F/A-18", "Model B200")
    assert splits["train"].images is not None and splits["train"].images.shape == (3, 32, 32, 3)


def test_an_image_of_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0000007\.jpg' is of two splits, train and test"):
        aircraft(tmp_path, images_variant_test=b"0000007 F/A-18\n")


def birds(tmp_path: Path, **changes: bytes) -> dict[str, Batch]:
    root = "CUB_200_2011"
    names = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Sparrow/s_1.jpg", "002.Sparrow/s_2.jpg"]
    members = {f"{root}/images/{name}": picture(10 * k) for k, name in enumerate(names, start=1)} | {
        "attributes.txt": b"1 has_bill_shape::curved\n",
        f"{root}/images/001.Albatross/._a_1.jpg": b"of another system",
        f"{root}/images.txt": "".join(f"{k} {name}\n" for k, name in enumerate(names, start=1)).encode(),
        f"{root}/train_test_split.txt": b"1 0\n2 1\n3 1\n4 0\n",
    }
    members |= {f"{root}/{name}.txt": content for name, content in changes.items()}
    return read(published("cub"), archive=tar(tmp_path / "CUB_200_2011.tgz", members))


def test_birds_are_told_apart_by_flags(tmp_path: Path) -> None:
    splits = birds(tmp_path)
    assert means(splits["train"]) == [20, 30] and means(splits["test"]) == [10, 40]
    assert equal(splits["train"].labels, [0, 1]) and equal(splits["test"].labels, [0, 1])
    assert splits["train"].classes == ("001.Albatross", "002.Sparrow")


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        (
            "images",
            b"1 001.Albatross/b.jpg\n",
            r"images\.txt: lists '001\.Albatross/b\.jpg', which `members`",
        ),
        ("images", b"1\n", r"images\.txt, line 1: a number and a name"),
        ("train_test_split", b"1 0\n", r"train_test_split\.txt gives no image the flag '1'"),
    ],
)
def test_mistakes_in_lists_of_birds(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    changes = {"train_test_split": b"1 1\n", member: content}
    with pytest.raises(UserError, match=message):
        birds(tmp_path, **changes)


def dogs(tmp_path: Path, **changes: Any) -> dict[str, Batch]:
    names = [
        "n02085620-Chihuahua/n02085620_10074.jpg",
        "n02085620-Chihuahua/n02085620_7.jpg",
        "n02-Pug/n02_1.jpg",
    ]
    images = tar(
        tmp_path / "images.tar", {f"Images/{n}": picture(10 * k) for k, n in enumerate(names, start=1)}
    )
    arrays = {"train_list": cells(names[2], names[0]), "test_list": cells(names[1])} | changes
    lists = tar(
        tmp_path / "lists.tar",
        {f"{key}.mat": matlab(file_list=value, labels=np.ones((1, 1))) for key, value in arrays.items()},
    )
    return read(published("stanford_dogs"), archive=images, lists=lists)


def test_dogs_are_listed_in_cells_of_a_file_in_an_archive(tmp_path: Path) -> None:
    splits = dogs(tmp_path)
    assert means(splits["train"]) == [30, 10] and means(splits["test"]) == [20]
    assert equal(splits["train"].labels, [0, 1]) and equal(splits["test"].labels, [1])
    assert splits["test"].classes == ("n02-Pug", "n02085620-Chihuahua")
    with pytest.raises(UserError, match=r"lists\.tar: file_list: lists 'n0/x\.jpg'"):
        dogs(tmp_path, test_list=cells("n0/x.jpg"))


def flowers(tmp_path: Path, labels: list[int], **places: list[int]) -> dict[str, Batch]:
    images = {f"jpg/image_{k:05d}.jpg": picture(10 * k) for k in range(1, 6)}
    archive = tar(tmp_path / "102flowers.tgz", dict(reversed(images.items())))
    paths = [tmp_path / "imagelabels.mat", tmp_path / "setid.mat"]
    paths[0].write_bytes(matlab(labels=np.array([labels], np.uint8)))
    ids = {"trnid": [5, 2], "valid": [1], "tstid": [3, 4]} | places
    paths[1].write_bytes(matlab(**{name: np.array([value], np.uint16) for name, value in ids.items()}))
    return read(published("flowers102"), archive=archive, labels=paths[0], places=paths[1])


def test_flowers_are_numbered_and_labelled_by_arrays_that_count_from_one(tmp_path: Path) -> None:
    splits = flowers(tmp_path, [1, 2, 1, 102, 3])
    assert means(splits["train"]) == [20, 50] and equal(splits["train"].labels, [1, 2])
    assert means(splits["validation"]) == [10] and equal(splits["validation"].labels, [0])
    assert means(splits["test"]) == [30, 40] and equal(splits["test"].labels, [0, 101])


def test_arrays_that_do_not_fit_the_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imagelabels\.mat: labels: 4 labels for 5 images"):
        flowers(tmp_path, [1, 2, 1, 1])
    with pytest.raises(UserError, match=r"setid\.mat: tstid: counts images to 6; the archive has 5"):
        flowers(tmp_path, [1, 2, 1, 1, 1], tstid=[6])


def test_matlab_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(matlab(a=np.arange(3)))
    files = {"x.mat": path}
    assert equal(load_array(ArrayRef(file="x.mat", array="a"), files), [0, 1, 2])
    with pytest.raises(UserError, match="unknown array 'b'"):
        load_array(ArrayRef(file="x.mat", array="b"), files)
    for content in (b"", b"no MATLAB", path.read_bytes()[:150]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.mat: damaged"):
            load_array(ArrayRef(file="x.mat", array="a"), files)


@pytest.mark.parametrize(
    ("found", "chosen", "message"),
    [
        (np.array([2, 1]), ["f/a.jpg", "f/b.jpg"], ""),
        (np.array([2.0, 2.0]), ["f/b.jpg"], ""),
        (np.array(["b", "f/a", "a.jpg"]), ["f/a.jpg", "f/b.jpg"], ""),
        (np.array([[1], [2]]), [], r"list\.npy: a list: a list of shape \(n,\) is needed, found \(2, 1\)"),
        (np.array(3), [], r"shape \(n,\) is needed, found \(\)"),
        (np.array([1.5]), [], "names or whole numbers are needed, found float64"),
        (np.array([0]), [], "counts images"),
    ],
)
def test_lists_are_names_or_numbers(
    tmp_path: Path, found: np.ndarray, chosen: list[str], message: str
) -> None:
    np.save(tmp_path / "list.npy", found)
    about = (
        ArrayRef(file="list.npy"),
        ["f/a.jpg", "f/b.jpg"],
        {"list.npy": tmp_path / "list.npy"},
        {},
        tmp_path,
    )
    if not message:
        assert named_by(*about) == chosen
        return
    with pytest.raises(UserError, match=message):
        named_by(*about)


def test_a_name_of_two_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("x.jpg\n")
    with pytest.raises(UserError, match=r"lists 'x\.jpg', which may be a/x\.jpg or b/x\.jpg"):
        named_by("names.txt", ["a/x.jpg", "b/x.jpg"], {"names.txt": path}, {}, tmp_path)
