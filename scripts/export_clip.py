"""Write a trained image-text model as a folder that open_clip opens, for its users and for other evaluations.

Writes: open_clip_config.json and open_clip_model.safetensors.

Example:
  .venv/bin/python scripts/export_clip.py results/small/train/ID --seed 0 --output model
and then, in Python: open_clip.create_model_from_pretrained("local-dir:model")
"""

from __future__ import annotations

import argparse
from pathlib import Path

from winnow.errors import run_main


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artefact", type=Path, help="folder of a training, results/<scale>/train/<id>")
    parser.add_argument("--seed", type=int, default=0, help="which repetition (default 0)")
    parser.add_argument("--output", required=True, type=Path, help="folder to write into")
    arguments = parser.parse_args()
    from winnow.train.engine.open_clip_format import export

    export(arguments.artefact, arguments.seed, arguments.output)


if __name__ == "__main__":
    run_main(main)
