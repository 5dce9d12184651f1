"""How scripts that need the whole plan are told the settings of the run."""

from __future__ import annotations

import argparse
import json
import os
import sys

from winnow.canonical import canonical_json
from winnow.errors import UserError, unknown
from winnow.plan.code import ROOT, SOURCE, sources_digest
from winnow.plan.config import Config, load_config
from winnow.plan.plan import Plan, load_plan
from winnow.plan.yamlfile import load_yaml


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--settings` to a script's options."""
    parser.add_argument(
        "--settings",
        default=os.environ.get("WINNOW_SETTINGS", ""),
        help="JSON with the keys of config.yaml (default: that file; the workflow passes its own)",
    )


def read_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan for a script's settings; its `--suite`, if it has one, must be in the plan."""
    plan = load_plan(read_settings(arguments).model_dump())
    suite = getattr(arguments, "suite", None)
    if suite is not None and suite not in plan.suites:
        raise unknown("suite", suite, plan.suites, "--suite")
    return plan


def export_settings(config: Config) -> None:
    """Let the scripts that this process starts run with this Python, this clone's code and these settings."""
    os.environ["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    )
    os.environ["PYTHONPATH"] = str(SOURCE)
    os.environ["WINNOW_SETTINGS"] = canonical_json(config.model_dump(mode="json"))
    os.environ["WINNOW_SOURCES"] = sources_digest()


def read_settings(arguments: argparse.Namespace) -> Config:
    """Return the validated settings: config.yaml, with the keys that `--settings` gives."""
    values = load_yaml(ROOT / "config.yaml")
    if arguments.settings:
        try:
            given = json.loads(arguments.settings)
        except ValueError as error:
            raise UserError(f"--settings: not JSON ({error}).") from error
        if not isinstance(given, dict):
            raise UserError(f"--settings: {given!r} is not accepted. Accepted: the keys of config.yaml.")
        values |= given
    return load_config(values, "config.yaml or --settings")
