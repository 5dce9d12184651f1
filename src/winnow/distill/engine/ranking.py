"""Rank a synthetic set: the same recipe on the set, on random subsets of its size and on the full data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from winnow.distill.engine import dd_ranking
from winnow.distill.engine.real import RealData
from winnow.evidence.paired import mean_interval
from winnow.train.engine.classifier import Classifier
from winnow.train.engine.recipe import Examples, Network, Recipe, accuracy, fit, logits_of, tuned
from winnow.train.engine.synthetic import SyntheticSet

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
"""The learning rates that DD-Ranking tries."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Arm:
    """What to train on: `full`, `synthetic` or `random`; hard or soft labels; with augmentation or not."""

    data: str
    labels: str
    augmented: bool = True

    def __str__(self) -> str:
        return f"{self.data}, {self.labels} labels" + ("" if self.augmented else ", no augmentation")


@dataclass(frozen=True)
class Options:
    """seeds: repetitions. tune: choose the learning rate of every arm on validation images. augmentation:
    train without it too, for ARS. real: train on the full data, for HLR and to label random subsets softly.
    real_steps: steps of that training (None: as many as every other arm takes).
    """

    seeds: int = 5
    tune: bool = False
    augmentation: bool = False
    real: bool = True
    real_steps: int | None = None


def arms_of(given: SyntheticSet, options: Options) -> list[Arm]:
    """Return all that is trained for the scores of a set; the full data first, as they teach."""
    own = ["hard"] if given.soft is None else ["hard", "soft"]
    taught = own if options.real else ["hard"]
    arms = [Arm("full", "hard")] if options.real else []
    arms += [Arm("synthetic", labels) for labels in own] + [Arm("random", labels) for labels in taught]
    if options.augmentation:
        arms += [Arm("synthetic", own[-1], False), Arm("random", taught[-1], False)]
    return arms


def train_arms(
    given: SyntheticSet,
    real: RealData,
    recipe: Recipe,
    network: Network,
    options: Options,
    done: Sequence[tuple[Arm, int]] = (),
) -> Iterator[dict[str, object]]:
    """Yield one row per arm and seed, as soon as it is there: data, labels, augmented, seed, lr, steps,
    examples, test_accuracy, validation_accuracy. Those in `done` are left out.
    """
    trainer = _Trainer(given, real, recipe, network, options)
    for arm in arms_of(given, options):
        missing = [seed for seed in range(options.seeds) if (arm, seed) not in done]
        chosen = trainer.recipe(arm) if missing else recipe
        for seed in missing:
            model = trainer.fit(arm, chosen, seed, f"{arm}, seed {seed}")
            examples = trainer.examples(arm, seed)
            yield {
                "data": arm.data,
                "labels": arm.labels,
                "augmented": arm.augmented,
                "seed": seed,
                "lr": chosen.lr,
                "steps": chosen.total_steps(len(examples)),
                "examples": len(examples),
                "test_accuracy": accuracy(model, real.test, chosen, network.device),
                "validation_accuracy": accuracy(model, real.validation, chosen, network.device),
            }


@dataclass(frozen=True)
class _Trainer:
    """Trains the arms of one ranking."""

    given: SyntheticSet
    real: RealData
    base: Recipe
    network: Network
    options: Options
    taught: dict[int, Tensor] = field(default_factory=dict)

    def recipe(self, arm: Arm) -> Recipe:
        """Return the recipe of an arm: as many steps as the set gets, its learning rate tuned if asked."""
        steps = self.base.total_steps(len(self.given.labels))
        if arm.data == "full" and self.options.real_steps is not None:
            steps = self.options.real_steps
        augment = self.base.augment if arm.augmented else ""
        found = self.base.model_copy(update={"steps": steps, "augment": augment})
        if not self.options.tune:
            return found

        def validated(tried: Recipe) -> float:
            model = self.fit(arm, tried, 0, f"{arm}, learning rate {tried.lr:g}")
            return accuracy(model, self.real.validation, tried, self.network.device)

        return tuned(found, RATES, validated, str(arm))

    def fit(self, arm: Arm, recipe: Recipe, seed: int, label: str) -> Classifier:
        model = fit(self.examples(arm, seed), recipe, self.network, seed, label)
        if arm.data == "full" and self.given.soft is not None:
            self.taught[seed] = self._answers(model, recipe)
        return model

    def examples(self, arm: Arm, seed: int) -> Examples:
        if arm.data == "full":
            return self.real.train
        if arm.data == "synthetic":
            found = Examples(self.given.images, self.given.labels, self.given.soft)
        else:
            counts = torch.bincount(self.given.labels, minlength=len(self.real.classes))
            rows = self.real.random_rows(counts, seed)
            found = self.real.train.take(rows)
            if arm.labels == "soft":
                found = Examples(found.images, found.labels, self._teaching(seed)[rows])
        return found if arm.labels == "soft" else found.hard()

    def _teaching(self, seed: int) -> Tensor:
        """Return what the network trained on the full data with this seed says of them."""
        if seed not in self.taught:
            full = Arm("full", "hard")
            self.fit(full, self.recipe(full), seed, f"teacher, seed {seed}")
        return self.taught[seed]

    def _answers(self, model: Classifier, recipe: Recipe) -> Tensor:
        return logits_of(model, self.real.train.images, recipe, self.network.device).softmax(1)


def scores(rows: pd.DataFrame, weight: float = 0.5, *, percent: bool = False) -> pd.DataFrame:
    """Return per seed: HLR, IOR, LRS, ARS, as far as the arms are there.

    rows: as `train_arms` yields them. weight: of the improvement in LRS, of augmentation in ARS. percent: put
    percentages into the scores, as the released code does.
    """
    unit = 100.0 if percent else 1.0
    found = pd.DataFrame(index=pd.Index(sorted(rows["seed"].unique()), name="seed"))
    accuracies = {
        key: group.set_index("seed")["test_accuracy"] * unit
        for key, group in rows.groupby(["data", "labels", "augmented"])
    }
    synthetic, random = (accuracies[data, best_labels(rows, data), True] for data in ("synthetic", "random"))
    if ("full", "hard", True) in accuracies:
        hard = accuracies["synthetic", "hard", True]
        full = accuracies["full", "hard", True]
        found["hlr"] = [
            dd_ranking.hard_label_recovery(*pair, percent=percent) for pair in zip(full, hard, strict=True)
        ]
    found["ior"] = [
        dd_ranking.improvement_over_random(*pair, percent=percent)
        for pair in zip(synthetic, random, strict=True)
    ]
    if "hlr" in found:
        found["lrs"] = [
            dd_ranking.label_robust_score(hlr, ior, weight, percent=percent)
            for hlr, ior in zip(found["hlr"], found["ior"], strict=True)
        ]
    plain = {data: labels for data, labels, augmented in accuracies if not augmented}
    if plain:
        gains = [
            accuracies["synthetic", plain["synthetic"], augmented]
            - accuracies["random", plain["random"], augmented]
            for augmented in (True, False)
        ]
        found["ars"] = [
            dd_ranking.augmentation_robust_score(with_it, without, weight, percent=percent)
            for with_it, without in zip(*gains, strict=True)
        ]
    return found


def best_labels(rows: pd.DataFrame, data: str) -> str:
    """Return the kind of labels with which an arm does best on validation images."""
    own = rows[(rows["data"] == data) & rows["augmented"]]
    return str(own.groupby("labels")["validation_accuracy"].mean().idxmax())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean, low and high (95 %) over seeds of each column of a table with a row per seed."""
    found = []
    for name, column in table.items():
        interval = mean_interval(column.to_numpy(float))
        found.append({"quantity": name, "mean": column.mean(), "low": interval.low, "high": interval.high})
    return pd.DataFrame(found)


def sweep(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean LRS and ARS for several weights: both weights are arbitrary."""
    return pd.DataFrame(
        [
            {"weight": weight} | {key: by[key].mean() for key in ("lrs", "ars") if key in by}
            for weight in WEIGHTS
            for by in [scores(rows, weight)]
        ]
    )
