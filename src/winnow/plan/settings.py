"""How scripts that need the whole plan are told the settings of the run."""

from __future__ import annotations

import argparse
import json

from winnow.errors import UserError
from winnow.plan.code import ROOT
from winnow.plan.config import Config, load_config
from winnow.plan.yamlfile import load_yaml


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--settings` to a script's options."""
    parser.add_argument(
        "--settings",
        default="",
        help="JSON with the keys of config.yaml (default: that file)",
    )


def read_settings(arguments: argparse.Namespace) -> Config:
    """Return the validated settings: config.yaml, with the keys that `--settings` gives."""
    values = load_yaml(ROOT / "config.yaml")
    if arguments.settings:
        try:
            values |= json.loads(arguments.settings)
        except ValueError as error:
            raise UserError(f"--settings: not JSON ({error})") from error
    return load_config(values)
