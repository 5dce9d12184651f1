"""Contact sheets, maps and confusions: what is on them, not how they look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from winnow.look.plots import confusion_panels, embedding_map, principal_axes
from winnow.look.sheets import COLUMNS, HEADING, MARGIN, TILE, contact_sheet, rows_of

RNG = np.random.default_rng(0)


def test_a_full_order_shows_both_sides_of_the_border() -> None:
    order = RNG.permutation(100)
    rows = rows_of(order, 40, np.arange(100) / 100)
    assert [row.heading for row in rows] == ["kept first", "kept last", "dropped first", "dropped last"]
    found = [row.index.tolist() for row in rows]
    assert found == [order[s].tolist() for s in (slice(10), slice(30, 40), slice(40, 50), slice(90, 100))]
    assert rows[1].notes[-1] == f"#40  {order[39] / 100:.3f}"


def test_an_order_that_ends_with_the_subset_has_nothing_dropped() -> None:
    rows = rows_of(np.array([7, 3, 5]), 3, None)
    assert [row.heading for row in rows] == ["kept first", "kept last"]
    assert rows[0].index.tolist() == [7, 3, 5] and rows[0].notes == ["#1", "#2", "#3"]


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_are_the_images(channels: int) -> None:
    images = {i: np.full((8, 8, channels), 10 * i, np.uint8) for i in range(COLUMNS)}
    sheet = contact_sheet(rows_of(np.arange(COLUMNS), COLUMNS, None), images, {0: "a long caption " * 9})
    for column in range(COLUMNS):
        x = MARGIN + column * (TILE + MARGIN) + TILE // 2
        assert sheet.getpixel((x, MARGIN + HEADING + TILE // 2)) == (10 * column,) * 3


def test_principal_axes_are_those_of_the_singular_vectors() -> None:
    rows = RNG.normal(size=(60, 5)) * [5, 1, 3, 0.1, 0.1] + 7
    found = principal_axes(rows)
    left, values, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(left[:, :2] * values[:2]), rtol=1e-8)


def test_pictures_are_written_whatever_the_number_of_panels(tmp_path: Path) -> None:
    places = RNG.normal(size=(200, 2))
    kept = {f"arm {i}": RNG.random(200) < 0.3 for i in range(4)}
    embedding_map(places, kept, tmp_path / "map.png")
    counts = {"only": RNG.integers(9, size=(30, 30))}
    confusion_panels(counts, [f"class {i}" for i in range(30)], tmp_path / "confusion.png")
    for name in ("map.png", "confusion.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 300
