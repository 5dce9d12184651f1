"""One ranking from files to files: read the set and the data, train, write what came out."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from winnow import provenance, registry
from winnow.canonical import canonical_json, sha256_text
from winnow.data.dataset import Dataset
from winnow.data.download import fetch
from winnow.data.prepare import prepare
from winnow.distill.engine.formats import digest_of, read_pair
from winnow.distill.engine.ranking import (
    Arm,
    Contest,
    Options,
    Row,
    arms_of,
    scores,
    sweep,
    train_arms,
)
from winnow.distill.engine.real import RealData, Units, are_shares, pixels_of
from winnow.errors import UserError, unknown
from winnow.evidence.paired import mean_interval
from winnow.plan.catalogue import load_catalogue
from winnow.plan.code import ROOT, code_digest
from winnow.plan.config import Config
from winnow.plan.yamlfile import validate
from winnow.store import building, read_json, write_atomic, write_json
from winnow.train.engine.device import pick_device
from winnow.train.engine.recipe import Network, Recipe
from winnow.train.engine.synthetic import SyntheticSet, seen_as

PREVIEW = 10
"""Pictures of each class in the preview."""


@dataclass(frozen=True)
class Request:
    """What is to be ranked, and how."""

    synthetic: Path
    labels: Path | None
    experiment: int
    factor: int
    dataset: str
    units: Units
    statistics: str
    zca: bool
    model: str
    model_params: dict[str, Any]
    recipe: dict[str, Any]
    options: Options

    def identity(self) -> str:
        """Return a text that is equal for equal requests on equal files by equal code.

        How many seeds are asked for is no part of it: more of them go on where fewer ended.
        """
        files = [path for path in (self.synthetic, self.labels) if path is not None]
        digests = [digest_of(path) for path in files]
        code = code_digest("rank", (f"winnow.models.{self.model}",))
        options = asdict(replace(self.options, seeds=()))
        facts = {"synthetic": digests, "labels": None, "options": options, "code": code}
        return canonical_json(asdict(self) | facts)


def rank(request: Request, config: Config, device: str, out: Path, weight: float, percent: bool) -> None:
    """Rank one set; prints the scores and writes them into `out`, which may hold a part of the runs already.

    Raises `UserError` where the set does not fit the data, or `out` holds another ranking.
    """
    started = time.time()
    recipe = validate(Recipe, request.recipe, "--recipe")
    model = registry.load("models", request.model, "--model")
    params = validate(model.params, request.model_params, "--model-params")
    _check(request.options, weight)
    seen = seen_as(request.synthetic)
    if seen is not None:
        factor = SyntheticSet.load(request.synthetic).factor
        request = replace(request, statistics="own", zca=seen == "zca", factor=factor)
    data = open_dataset(request.dataset, config)
    real = RealData.of(data, request.statistics, request.zca)
    pair = read_pair(request.synthetic, request.labels, request.experiment, real.classes)
    given = real.fitting(*pair, request.units, str(request.synthetic), request.factor)
    print(_read(*pair, given, request))
    network = Network(model, params, len(real.classes), pick_device(device))
    contest = Contest.about(given, real, recipe, network, request.options)
    contest = replace(contest, teachers=lambda seed: out / f"teacher_{seed}.safetensors")
    # What cannot be trained is told before hours of training.
    real.random_rows(contest.counts, 0)
    _, channels, size, _ = given.images.shape
    network.fresh(channels, size, 0, "check")
    done = _resumed(out, request)
    _preview(given, real, out / "preview.png")
    for row in train_arms(arms_of(given.soft is not None, request.options), contest, tuple(done)):
        done.append(row)
        write_atomic(out / "runs.csv", pd.DataFrame(done).to_csv(index=False).encode())
    runs = pd.DataFrame(done)
    found = summary(scores(runs, weight, percent=percent))
    facts = provenance.collect(ROOT, device, started, time.time())
    write_atomic(out / "scores.csv", found.to_csv(index=False).encode())
    weights = sweep(runs, percent=percent)
    write_atomic(out / "weights.csv", weights.to_csv(index=False).encode())
    about = {
        "weight": weight,
        "percent": percent,
        "examples": len(given.labels),
        "bytes_of_labels": given.bytes_of_labels,
        "recipe": recipe.model_dump(),
        "provenance": facts,
    }
    write_json(out / "ranking.json", {"identity": request.identity(), **about})
    print(text(runs, found, weights))
    print(f"\nwritten: {out}")


def _read(images: Tensor, found: Tensor, given: SyntheticSet, request: Request) -> str:
    """Return what the set was taken for: a wrong guess is to show here, and not in its accuracy."""
    seen = "whitened (--zca)" if request.zca else f"normalised by {request.statistics} statistics"
    units = f"what networks saw, {seen}" if pixels_of(images, request.units) is None else "pixels"
    labels = "hard labels" if given.soft is None else "soft labels"
    if found.ndim == 2 and not are_shares(found):
        labels += " from logits"
    parts = f", each cut into {request.factor**2}" if request.factor > 1 else ""
    line = f"{request.synthetic}: {len(images)} images{parts}, {units} (--units), {labels}"
    if given.soft is not None and not request.options.real:
        line += (
            "\nWithout the full data nothing gives random subsets soft labels: the scores are those of hard"
            " labels beside hard labels."
        )
    return line


def _check(options: Options, weight: float) -> None:
    """Refuse numbers that are out of range."""
    for name, value in (("--seeds", len(options.seeds)), ("--full-data-steps", options.real_steps)):
        if value is not None and value < 1:
            raise UserError(f"{name}: {value} is not accepted; at least 1.")
    if options.taught and not options.real:
        raise UserError("--taught: the teacher is the network of the full data; leave out --no-full-data.")
    if not 0 <= weight <= 1:
        raise UserError(f"--weight: {weight} is not accepted; from 0 to 1.")


def text(runs: pd.DataFrame, found: pd.DataFrame, weights: pd.DataFrame) -> str:
    """Return the tables for the screen: accuracies in per cent per arm, scores, scores by weight."""
    lines = ["", "test accuracy, last step (%, mean and 95 % interval over seeds)"]
    for _, own in runs.groupby(["data", "labels", "augmented"], sort=False):
        (row,) = summary(own[["test_accuracy"]]).to_dict("records")
        mean, low, high = (100 * row[key] for key in ("mean", "low", "high"))
        rates = ", ".join(f"{rate:g}" for rate in sorted(own["lr"].unique()))
        first = own.iloc[0]
        arm = str(Arm(first["data"], first["labels"], first["augmented"]))
        about = f"{first['examples']:,} examples, {first['steps']:,} steps, lr {rates}"
        lines.append(f"  {arm:<40} {mean:6.2f}  {_between(low, high, '6.2f')}  {about}")
    lines += [
        "",
        "scores (HLR lower is better, the others higher; LRS and ARS of no gain and no loss: 0.2689)",
    ]
    for row in found.to_dict("records"):
        name, mean, low, high = row["quantity"].upper(), row["mean"], row["low"], row["high"]
        lines.append(f"  {name:<40} {mean:7.4f}  {_between(low, high, '7.4f')}")
    if len(weights.columns) > 1:
        lines += ["", "scores by weight, which is arbitrary"]
        lines += [f"  {line}" for line in weights.round(4).to_string(index=False).splitlines()]
    return "\n".join(lines)


def _between(low: float, high: float, form: str) -> str:
    if math.isnan(low):
        return "[one seed: no interval]"
    return f"[{low:{form}}, {high:{form}}]"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean, low and high (95 %) over seeds of each column of a table with a row per seed."""
    found = []
    for name, column in table.items():
        interval = mean_interval(column.to_numpy(float))
        found.append({"quantity": name, "mean": column.mean(), "low": interval.low, "high": interval.high})
    return pd.DataFrame(found)


def open_dataset(name: str, config: Config) -> Dataset:
    """Return a dataset, fetched and decoded if it is not there: published splits, all examples."""
    catalogue = load_catalogue(ROOT / "datasets.yaml")
    if name not in catalogue:
        raise unknown("dataset", name, catalogue, "--dataset")
    entry = catalogue[name]
    results = config.shared_store or config.scale_folder.parent
    files = {file: results / "data" / place for file, place in entry.sources().items()}
    for file in entry.files:
        if not files[file.name].is_file():
            files[file.name].parent.mkdir(parents=True, exist_ok=True)
            fetch(name, file, files[file.name], config.mirror_folder)
    content = canonical_json(entry.content())
    folder = results / "rank" / "prepare" / f"{name}-{sha256_text(content)[:8]}"
    if not (folder / "dataset.json").is_file():
        with building(folder, {"entry": content}) as artefact:
            if artefact is not None:
                prepare(entry, files, artefact.out)
    return Dataset.open(folder, results / "data")


def _resumed(out: Path, request: Request) -> list[Row]:
    """Return the rows of runs that are there; refuses a folder with those of another request."""
    out.mkdir(parents=True, exist_ok=True)
    mark = out / "request.json"
    if mark.is_file() and read_json(mark)["identity"] != request.identity():
        raise UserError(
            f"{out}: holds another ranking, or one by other code. Name another folder: --output FOLDER"
        )
    write_json(mark, {"identity": request.identity()})
    runs = out / "runs.csv"
    rows = pd.read_csv(runs).to_dict("records") if runs.is_file() else []
    return [{str(key): value for key, value in row.items()} for row in rows]


def _preview(given: SyntheticSet, real: RealData, path: Path) -> None:
    """Draw up to ten pictures of each class, a class per row."""
    chosen = [(given.labels == label).nonzero().flatten()[:PREVIEW] for label in range(len(real.classes))]
    columns = max(len(rows) for rows in chosen)
    _, channels, height, width = given.images.shape
    sheet = torch.ones(len(chosen), columns, channels, height, width)
    for line, rows in enumerate(chosen):
        sheet[line, : len(rows)] = real.space.picture(given.images[rows])
    grid = sheet.permute(0, 3, 1, 4, 2).reshape(len(chosen) * height, columns * width, channels)
    pixels = (grid * 255).round().byte().numpy()
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    zoom = max(1, 64 // height)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path)
