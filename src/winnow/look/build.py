"""The page of a suite's pictures: what methods keep, drop, nearly keep or make, in the first repetition."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from winnow.data.dataset import Dataset
from winnow.data.lazy import ImageSource
from winnow.look.plots import confusion_panels, embedding_map, learning_curves, principal_axes
from winnow.look.sheets import contact_sheet, rows_of
from winnow.plan.graph import Cell
from winnow.plan.plan import Plan
from winnow.store import load_array, read_json, verified
from winnow.tables import read_table


@dataclass(frozen=True)
class Picture:
    """A file beside the page, under a heading."""

    heading: str
    title: str
    file: str


def look_at(plan: Plan, suite: str, out: Path) -> None:
    """Draw the pictures of a suite and `index.html`, which shows them, into the folder `out`."""
    by_dataset: dict[str, list[Cell]] = {}
    for cell in plan.graph.cells[suite]:
        if cell.length == "epochs" or cell.select is not None or cell.synthetic is not None:
            by_dataset.setdefault(cell.dataset, []).append(cell)
    pictures = [
        picture
        for name, cells in by_dataset.items()
        for picture in _Drawer(plan, suite, name, cells, out).draw()
    ]
    page = _template().render(title=plan.suites[suite].title, scale=plan.config.scale, pictures=pictures)
    (out / "index.html").write_text(page, encoding="utf-8")


class _Drawer:
    """The pictures of one dataset."""

    def __init__(self, plan: Plan, suite: str, name: str, cells: list[Cell], out: Path) -> None:
        self.plan, self.arms, self.name, self.out = plan, plan.suites[suite].arms, name, out
        chunk = cells[0].report_seeds
        self.cells = list({(c.arm, c.fraction): c for c in cells if c.report_seeds == chunk}.values())
        self.seed = chunk[0]
        self.data = Dataset.open(plan.config.scale_folder / cells[0].data)

    def draw(self) -> Iterator[Picture]:
        chosen = [cell for cell in self.cells if cell.select is not None]
        yield from self._confusions()
        for fraction in sorted({cell.fraction for cell in chosen}):
            yield from self._map(fraction, [cell for cell in chosen if cell.fraction == fraction])
        made = [cell for cell in self.cells if cell.synthetic is not None]
        for fraction in sorted({cell.fraction for cell in made}):
            yield from self._learning(fraction, [cell for cell in made if cell.fraction == fraction])
        yield from map(self._gallery, made)
        yield from map(self._sheet, chosen)

    def _learning(self, fraction: float, cells: list[Cell]) -> Iterator[Picture]:
        """Draw how the sets of one size were learned, those that were learned in iterations."""
        found = {}
        for cell in cells:
            table = read_table(verified(self._made(cell), f"s{self.seed}/history.parquet"))
            if len(table) > 1:
                found[self._label(cell)] = table
        if found:
            file = f"{self.name}-learning-f{fraction:.4f}.png"
            learning_curves(found, self.out / file)
            yield Picture(f"{self.name}: synthetic sets", f"how they were learned, {fraction:.2%}", file)

    def _gallery(self, cell: Cell) -> Picture:
        file = f"{self.name}-{cell.arm}-f{cell.fraction:.4f}-gallery.png"
        shutil.copyfile(verified(self._made(cell), f"s{self.seed}/preview.png"), self.out / file)
        title = f"{self._label(cell)}, {cell.fraction:.2%}, after so many iterations"
        return Picture(f"{self.name}: synthetic sets", title, file)

    def _made(self, cell: Cell) -> Path:
        assert cell.synthetic is not None
        return self.plan.config.scale_folder / cell.synthetic

    def _sheet(self, cell: Cell) -> Picture:
        order, kept = self._order(cell)
        rows = rows_of(order, kept, self._score(cell))
        shown = np.unique(np.concatenate([row.index for row in rows]))
        pixels = self.images[shown]
        captions = {int(i): self.captions[i] for i in shown} if self.captions else {}
        sheet = contact_sheet(rows, dict(zip(shown.tolist(), pixels, strict=True)), captions)
        file = f"{self.name}-{cell.arm}-f{cell.fraction:.2f}.png"
        sheet.save(self.out / file)
        kind = "pairs" if self.captions else "images"
        return Picture(f"{self.name}: {kind}", f"{self._label(cell)}, {cell.fraction:.0%} kept", file)

    def _map(self, fraction: float, cells: list[Cell]) -> Iterator[Picture]:
        places = self._places
        if places is None:
            return
        kept = {}
        for cell in cells:
            order, count = self._order(cell)
            kept[self._label(cell)] = np.isin(np.arange(len(places)), order[:count])
        file = f"{self.name}-map-f{fraction:.2f}.png"
        embedding_map(places, kept, self.out / file)
        yield Picture(f"{self.name}: where they lie", f"kept (blue) and dropped, {fraction:.0%} kept", file)

    def _confusions(self) -> Iterator[Picture]:
        counts = {}
        for cell in self.cells:
            folder = self.plan.config.scale_folder / cell.evaluate
            if (folder / f"s{self.seed}" / "confusion.npy").is_file():
                name = f"{self._label(cell)}, {cell.fraction:.0%}"
                counts[name] = np.asarray(load_array(folder, f"s{self.seed}/confusion.npy"))
        if counts:
            file = f"{self.name}-confusion.png"
            confusion_panels(counts, self.data.classes, self.out / file)
            yield Picture(f"{self.name}: zero-shot confusion", "the most frequent classes", file)

    def _order(self, cell: Cell) -> tuple[np.ndarray, int]:
        """Return a selection's order, which may end with the subset, and how many of it are kept."""
        assert cell.select is not None
        path = verified(self.plan.config.scale_folder / cell.select, f"s{self.seed}/subset.parquet")
        order = read_table(path)["index"].to_numpy()
        budget = self.plan.graph.nodes[cell.train].spec.model_dump()["budget"]
        return order, len(order) if budget is None else budget

    def _score(self, cell: Cell) -> np.ndarray | None:
        """Return the method's own score or, of pairs, the CLIP score of the proxy that it saw."""
        assert cell.select is not None
        folder = self.plan.config.scale_folder / cell.select
        if "keep" in read_json(verified(folder, f"s{self.seed}/facts.json")):
            table = read_table(verified(folder, f"s{self.seed}/scores.parquet"))
            return table.sort_values("index")["score"].to_numpy()
        return self._clip_score

    @cached_property
    def _clip_score(self) -> np.ndarray | None:
        images, texts = (self._signal(name) for name in ("embeddings", "text_embeddings"))
        return None if images is None or texts is None else np.einsum("nd,nd->n", images, texts)

    @cached_property
    def _places(self) -> np.ndarray | None:
        embeddings = self._signal("embeddings")
        return None if embeddings is None else principal_axes(embeddings)

    def _signal(self, name: str) -> np.ndarray | None:
        """Return a signal of the first arm that has it; arms with a proxy of their own come last."""
        for cell in sorted(self.cells, key=lambda cell: bool(self.arms[cell.arm].proxy)):
            if cell.select is None:
                continue
            reference = self.plan.graph.nodes[cell.select].spec.model_dump()["signals"].get(name)
            if reference is not None:
                return load_array(self.plan.config.scale_folder / reference, f"s{self.seed}/signal.npy")
        return None

    def _label(self, cell: Cell) -> str:
        return self.arms[cell.arm].label

    @cached_property
    def images(self) -> ImageSource:
        return self.data.pool_images()

    @cached_property
    def captions(self) -> list[str]:
        return [own[0] for own in self.data.pool_captions()] if self.data.kind == "pairs" else []


def _template() -> Template:
    loader = PackageLoader("winnow.look")
    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=loader, **options).get_template("look.html.j2")  # type: ignore[arg-type]
