"""Rank a distilled set: what it is worth beside random subsets of its size and beside the full data.

A fresh network is trained on the set with one fixed recipe (default: that of DSA and DM), tested after
its last step, and the same is done with class-balanced random subsets and with the full data, for as many
steps. Nothing is chosen on the test set. Prints and writes accuracies, HLR, IOR and the scores of
DD-Ranking (arXiv 2505.13300) in fractions, with 95 % intervals over seeds.

Reads: .pt or .pth (tensors alone: nothing in the file is run), .npz, .safetensors, or a folder of pictures.
Writes: runs.csv, scores.csv, weights.csv, ranking.json, preview.png, and teacher_<seed>.safetensors where
networks of the full data teach; runs that are there are not repeated.

Examples:
  .venv/bin/python scripts/rank.py --synthetic res_DM_CIFAR10_ConvNet_10ipc.pt --dataset cifar10
  .venv/bin/python scripts/rank.py --synthetic images_best.pt --labels labels_best.pt --zca \\
      --learned-rate lr_best.pt --dataset cifar10
  .venv/bin/python scripts/rank.py --synthetic set.npz --dataset fashion_mnist --seeds 3 \\
      --model-params '{"width": 64}' --epochs 300 --augmentation-robust
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from winnow.errors import UserError, run_main
from winnow.plan.settings import add_settings, read_settings


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_settings(found)
    given = found.add_argument_group("the set")
    given.add_argument(
        "--synthetic", required=True, type=Path, help="file or folder with the distilled images"
    )
    given.add_argument("--labels", type=Path, help="file with the labels, where they are in another one")
    given.add_argument(
        "--experiment", type=int, default=0, help="which of several sets in a file (default 0)"
    )
    given.add_argument(
        "--factor",
        type=int,
        default=1,
        help="each image holds FACTOR x FACTOR small ones (DREAM, NCFM: 2; default 1)",
    )
    given.add_argument("--dataset", required=True, help="what was distilled: a name in datasets.yaml")
    given.add_argument(
        "--units",
        choices=("auto", "pixels", "network"),
        default="auto",
        help="pixels (0 to 1 or to 255) or what networks see (default: pixels where values nearly fit)",
    )
    given.add_argument(
        "--statistics",
        choices=("published", "own"),
        default="published",
        help="mean and deviation in what networks see: of the released codes, or of the training images",
    )
    given.add_argument("--zca", action="store_true", help="networks see ZCA-whitened images (MTT, DATM)")
    how = found.add_argument_group("the recipe")
    how.add_argument("--model", default="convnet", help="architecture (default convnet: depth 3, width 128)")
    how.add_argument("--model-params", default="{}", help="JSON with its parameters")
    how.add_argument("--epochs", type=int, help="epochs on the set (default 1000)")
    how.add_argument(
        "--recipe", default="{}", help="JSON with any parameter of the recipe: lr, schedule, ..."
    )
    how.add_argument(
        "--learned-rate",
        type=Path,
        metavar="FILE",
        help="file with the step size that was learned with the set (lr_best.pt, or the set itself)",
    )
    how.add_argument("--seeds", type=int, default=5, help="networks per arm (default 5)")
    how.add_argument(
        "--tune", action="store_true", help="tune every arm's learning rate on validation images"
    )
    what = found.add_argument_group("the scores")
    what.add_argument(
        "--no-full-data", action="store_true", help="leave out HLR and LRS: the longest trainings"
    )
    what.add_argument(
        "--full-data-steps", type=int, help="steps on the full data (default: as many as the set)"
    )
    what.add_argument(
        "--augmentation-robust", action="store_true", help="ARS: train without augmentation too"
    )
    what.add_argument(
        "--taught",
        action="store_true",
        help="train by a teacher too, the network of the full data, with CutMix (RDED, SRe2L)",
    )
    what.add_argument(
        "--weight", type=float, default=0.5, help="of the improvement in LRS and ARS (default 0.5)"
    )
    what.add_argument(
        "--percent", action="store_true", help="scores of percentages, as released: wrong, to compare with"
    )
    found.add_argument("--device", help="auto, cpu or cuda (default: that of config.yaml)")
    found.add_argument(
        "--output", type=Path, help="folder to write to (default results/rank/<name of the set>)"
    )
    return found


def main() -> None:
    arguments = parser().parse_args()
    config = read_settings(arguments)
    # Imports torch, which --help does without.
    from winnow.distill.engine.dd_ranking import RATES
    from winnow.distill.engine.formats import read_rate
    from winnow.distill.engine.ranking import Options
    from winnow.distill.engine.ranking_run import Request, rank
    from winnow.plan.specs import Taught

    recipe = _json(arguments.recipe, "--recipe")
    if arguments.epochs is not None:
        recipe["epochs"] = arguments.epochs
    if arguments.learned_rate is not None:
        if arguments.tune or "lr" in recipe:
            raise UserError(
                "--learned-rate: another rate is asked for by --tune or --recipe; give one of them."
            )
        recipe["lr"] = read_rate(arguments.learned_rate)
    options = Options(
        seeds=tuple(range(arguments.seeds)),
        rates=RATES if arguments.tune else None,
        augmentation=arguments.augmentation_robust,
        real=not arguments.no_full_data,
        real_steps=arguments.full_data_steps,
        taught=Taught() if arguments.taught else None,
    )
    request = Request(
        synthetic=arguments.synthetic,
        labels=arguments.labels,
        experiment=arguments.experiment,
        factor=arguments.factor,
        dataset=arguments.dataset,
        units=arguments.units,
        statistics=arguments.statistics,
        zca=arguments.zca,
        model=arguments.model,
        model_params=_json(arguments.model_params, "--model-params"),
        recipe=recipe,
        options=options,
    )
    output = arguments.output or Path("results") / "rank" / arguments.synthetic.stem
    rank(request, config, arguments.device or config.device, output, arguments.weight, arguments.percent)


def _json(text: str, option: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{option}: not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f'{option}: {text} is not accepted; give {{"name": value, ...}}.')
    return found


if __name__ == "__main__":
    run_main(main)
