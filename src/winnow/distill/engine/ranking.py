"""Rank a synthetic set: the same recipe on the set, on random subsets of its size and on the full data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from winnow.distill.engine import dd_ranking
from winnow.distill.engine.dd_ranking import WEIGHTS
from winnow.distill.engine.real import RealData
from winnow.plan.specs import Taught
from winnow.store import write_atomic
from winnow.train.engine.classifier import Classifier
from winnow.train.engine.recipe import Examples, Network, Recipe, accuracy, fit, logits_of, tuned
from winnow.train.engine.synthetic import SyntheticSet

Row = Mapping[str, Any]
"""One training of one arm, as `train_arms` describes it."""


@dataclass(frozen=True)
class Arm:
    """What to train on: `full`, `synthetic` or `random`; with augmentation or not; and by which labels.

    These are `hard`, `soft`, or `taught`: what a network that learned the full data says of each image as it
    is shown, mixed with others.
    """

    data: str
    labels: str
    augmented: bool = True

    @classmethod
    def of(cls, row: Row) -> Arm:
        return cls(row["data"], row["labels"], bool(row["augmented"]))

    def __str__(self) -> str:
        return f"{self.data}, {self.labels} labels" + ("" if self.augmented else ", no augmentation")


@dataclass(frozen=True)
class Options:
    """seeds: repetitions; networks, orders and random subsets are drawn by them. rates: learning rates, of
    which every arm takes the best on validation images (None: the recipe's). augmentation: train without it
    too, for ARS. real: train on the full data, for HLR and to label random subsets softly. real_steps: steps
    of that training (None: as many as every other arm takes). taught: train by a teacher too.
    """

    seeds: tuple[int, ...] = tuple(range(5))
    rates: tuple[float, ...] | None = None
    augmentation: bool = False
    real: bool = True
    real_steps: int | None = None
    taught: Taught | None = None


def arms_of(is_soft: bool, options: Options) -> list[Arm]:
    """Return all that is trained for the scores of a set with hard labels alone, or with soft ones too; the
    full data first, as they teach: without them random subsets have hard labels alone.
    """
    own = ["hard", *(["soft"] if is_soft else []), *(["taught"] if options.taught else [])]
    taught = own if options.real else ["hard"]
    arms = [Arm("full", "hard")] if options.real else []
    arms += [Arm("synthetic", labels) for labels in own] + [Arm("random", labels) for labels in taught]
    if options.augmentation:
        arms += [Arm(data, taught[-1], False) for data in ("synthetic", "random")]
    return arms


@dataclass(frozen=True)
class Contest:
    """What arms are trained with. recipe: all but the rate, where it is tuned. counts: (classes,) int64, the
    images of each class in a random subset. given: the set, or None where only real images are trained on.
    teachers: where the network that learned the full data with a seed is kept, or is to be.
    """

    real: RealData
    recipe: Recipe
    network: Network
    options: Options
    counts: Tensor
    given: SyntheticSet | None = None
    teachers: Callable[[int], Path] | None = None

    @classmethod
    def about(
        cls, given: SyntheticSet, real: RealData, recipe: Recipe, network: Network, options: Options
    ) -> Contest:
        """Return that of a set with random subsets that have its number of images in every class.

        A set may hold several small images in one: random subsets are as large as what is stored, and all
        train for the steps of what is shown.
        """
        counts = torch.bincount(given.labels, minlength=len(real.classes))
        shown = given.shown()
        recipe = recipe.model_copy(update={"steps": recipe.total_steps(len(shown.labels))})
        return cls(real, recipe, network, options, counts, shown)


def train_arms(arms: Sequence[Arm], contest: Contest, done: Sequence[Row] = ()) -> Iterator[Row]:
    """Yield one row per arm and seed, as soon as it is there: data, labels, augmented, seed, lr, steps,
    examples, test_accuracy, validation_accuracy. Those in `done`, rows of an earlier run, are left out.
    """
    rates = {Arm.of(row): float(row["lr"]) for row in done}
    teaches = any(arm.labels == "taught" or str(arm) == "random, soft labels" for arm in arms)
    trainer = _Trainer(contest, rates, teaches)
    finished = {(Arm.of(row), row["seed"]) for row in done}
    for arm in arms:
        missing = [seed for seed in contest.options.seeds if (arm, seed) not in finished]
        if missing:
            yield from trainer.rows(arm, missing)


@dataclass(frozen=True)
class _Trainer:
    """Trains the arms of one contest. rates: those that were chosen before. answers: of teachers, by seed."""

    contest: Contest
    rates: Mapping[Arm, float]
    teaches: bool
    teachers: dict[int, Classifier] = field(default_factory=dict)
    answers: dict[int, Tensor] = field(default_factory=dict)

    def rows(self, arm: Arm, seeds: Sequence[int]) -> Iterator[Row]:
        real, device = self.contest.real, self.contest.network.device
        recipe, models = self._chosen(arm)
        for seed in seeds:
            model = models.pop(seed, None) or self._fit(arm, recipe, seed, f"{arm}, seed {seed}")
            if arm.data == "full" and self.teaches:
                self._keep(model, seed)
            examples = self._examples(arm, seed)
            yield {
                "data": arm.data,
                "labels": arm.labels,
                "augmented": arm.augmented,
                "seed": seed,
                "lr": recipe.lr,
                "steps": recipe.total_steps(len(examples)),
                "examples": len(examples),
                "test_accuracy": accuracy(model, real.test, recipe, device),
                "validation_accuracy": accuracy(model, real.validation, recipe, device),
            }

    def _chosen(self, arm: Arm) -> tuple[Recipe, dict[int, Classifier]]:
        """Return the recipe of an arm, with its best rate, and the network by seed that this was found with.

        Every arm takes as many steps as the set, but for the full data where told otherwise.
        """
        contest, options = self.contest, self.contest.options
        steps = contest.recipe.total_steps(int(contest.counts.sum()))
        if arm.data == "full" and options.real_steps is not None:
            steps = options.real_steps
        taught = vars(options.taught) if options.taught and arm.labels == "taught" else {}
        plain = {} if arm.augmented else {"augment": "", "cutmix": 0.0}
        recipe = contest.recipe.model_copy(update={"steps": steps, **taught, **plain})
        if arm in self.rates:
            return recipe.model_copy(update={"lr": self.rates[arm]}), {}
        if options.rates is None:
            return recipe, {}
        first, models = options.seeds[0], dict[float, Classifier]()

        def validated(tried: Recipe) -> float:
            models[tried.lr] = self._fit(arm, tried, first, f"{arm}, learning rate {tried.lr:g}")
            return accuracy(models[tried.lr], contest.real.validation, tried, contest.network.device)

        best = tuned(recipe, options.rates, validated, str(arm))
        return best, {first: models[best.lr]}

    def _fit(self, arm: Arm, recipe: Recipe, seed: int, label: str) -> Classifier:
        teacher = self._teacher(seed) if arm.labels == "taught" else None
        return fit(self._examples(arm, seed), recipe, self.contest.network, seed, label, teacher)

    def _examples(self, arm: Arm, seed: int) -> Examples:
        real, given = self.contest.real, self.contest.given
        if arm.data == "full":
            return real.train
        if arm.data == "random":
            rows = real.random_rows(self.contest.counts, seed)
            found = real.train.take(rows)
            if arm.labels == "soft":
                found = Examples(found.images, found.labels, self._teaching(seed)[rows])
        else:
            assert given is not None
            found = Examples(given.images, given.labels, given.soft)
        return found if arm.labels == "soft" else found.hard()

    def _teaching(self, seed: int) -> Tensor:
        """Return what the network trained on the full data with this seed says of them."""
        if seed not in self.answers:
            network, images = self.contest.network, self.contest.real.train.images
            logits = logits_of(self._teacher(seed), images, self.contest.recipe, network.device)
            self.answers[seed] = logits.softmax(1)
        return self.answers[seed]

    def _teacher(self, seed: int) -> Classifier:
        """Return the network trained on the full data with this seed."""
        if seed not in self.teachers:
            kept = self.contest.teachers and self.contest.teachers(seed)
            if kept and kept.is_file():
                self.teachers[seed] = self._read(kept, seed)
            else:
                full = Arm("full", "hard")
                recipe, models = self._chosen(full)
                model = models.get(seed) or self._fit(full, recipe, seed, f"teacher, seed {seed}")
                self._keep(model, seed)
        return self.teachers[seed]

    def _keep(self, model: Classifier, seed: int) -> None:
        self.teachers[seed] = model.requires_grad_(False)
        if self.contest.teachers:
            weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            write_atomic(self.contest.teachers(seed), save(weights))

    def _read(self, path: Path, seed: int) -> Classifier:
        channels, size = self.contest.real.train.images.shape[1:3]
        found = self.contest.network.fresh(channels, size, seed, "init")
        found.load_state_dict(load_file(path))
        return found.eval().requires_grad_(False)


def scores(rows: pd.DataFrame, weight: float = 0.5, *, percent: bool = False) -> pd.DataFrame:
    """Return per seed: HLR, IOR, LRS, ARS, as far as the arms are there. Set and random subsets are compared
    with kinds of labels that both were trained with.

    rows: as `train_arms` yields them. weight: of the improvement in LRS, of augmentation in ARS. percent: put
    percentages into the scores, as the released code does.
    """
    unit = 100.0 if percent else 1.0
    found = pd.DataFrame(index=pd.Index(sorted(rows["seed"].unique()), name="seed"))
    accuracies = {
        key: group.set_index("seed")["test_accuracy"] * unit
        for key, group in rows.groupby(["data", "labels", "augmented"])
    }
    both = rows[rows["labels"].isin(rows.loc[rows["data"] == "random", "labels"])]
    synthetic, random = (accuracies[data, best_labels(both, data), True] for data in ("synthetic", "random"))
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


def sweep(rows: pd.DataFrame, weights: Sequence[float] = WEIGHTS, *, percent: bool = False) -> pd.DataFrame:
    """Return the mean LRS and ARS for several weights: both weights are arbitrary."""
    return pd.DataFrame(
        [
            {"weight": weight} | {key: by[key].mean() for key in ("lrs", "ars") if key in by}
            for weight in weights
            for by in [scores(rows, weight, percent=percent)]
        ]
    )
