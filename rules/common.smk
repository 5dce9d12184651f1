# The plan, and the few functions by which rules ask it.
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from winnow.canonical import canonical_json
from winnow.errors import UserError
from winnow.plan.code import code_digest
from winnow.plan.plan import load_plan
from winnow.plan.runlock import clear_stale_locks
from winnow.plan.settings import export_settings
from winnow.plan.yamlfile import load_yaml

try:
    # Snakemake keeps the last of a repeated key and says nothing.
    for file in workflow.configfiles:
        load_yaml(Path(file))
    PLAN = load_plan(config)
except UserError as error:
    sys.exit(f"error: {error}")

STORE = str(PLAN.config.scale_folder)
DATA = f"{PLAN.config.store}/data"
GPUS = 0 if PLAN.config.device == "cpu" else 1
CORE = "../envs/core.yaml"
export_settings(PLAN.config)

RUNNING = clear_stale_locks(Path(".snakemake"))


wildcard_constraints:
    id=r"[^/]+",
    suite="|".join(PLAN.suites),
    dataset="|".join(PLAN.catalogue),
    file="|".join(re.escape(file.name) for entry in PLAN.catalogue.values() for file in entry.files),
    figure="|".join(Path(figure).stem for suite in PLAN.suites for figure in PLAN.figures(suite)) or "none",


def inputs(stage):
    return lambda wildcards: answered(PLAN.inputs, stage, wildcards.id)


def spec(stage):
    return lambda wildcards: PLAN.spec(stage, wildcards.id)


def code(stage):
    return lambda wildcards: PLAN.code(stage, wildcards.id)


def scaled(base):
    return lambda wildcards, attempt: base * attempt


def answered(question, *arguments):
    """Ask the plan; a target that it does not have ends in one message instead of a traceback."""
    try:
        return question(*arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
