# The plan, and the few functions by which rules ask it.
import gc
import inspect
import logging
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from winnow.canonical import canonical_json
from winnow.errors import UserError
from winnow.plan.code import code_digest
from winnow.plan.failures import Failures
from winnow.plan.plan import load_plan
from winnow.plan.rounds import end_idle_rounds
from winnow.plan.runlock import clear_stale_locks
from winnow.plan.settings import export_settings
from winnow.plan.shared import join_store
from winnow.plan.yamlfile import load_yaml
from winnow.warm import shell_function

# A plan of thousands of jobs is millions of objects that stay: look for garbage among them less often.
gc.set_threshold(100_000, 50, 100)

try:
    # Snakemake keeps the last of a repeated key and says nothing.
    for file in workflow.configfiles:
        load_yaml(Path(file))
    PLAN = load_plan(config)
except UserError as error:
    sys.exit(f"error: {error}")

# Of a shared store, these folders hold links: a failed job loses a link, never what another clone has made.
STORE = str(PLAN.config.scale_folder)
DATA = "results/data"
GPUS = 0 if PLAN.config.device == "cpu" else 1
CORE = "../envs/core.yaml"
export_settings(PLAN.config)

FAILURES = Failures()
RUNNING = clear_stale_locks(Path(".snakemake"))
try:
    join_store(PLAN, RUNNING)
except UserError as error:
    sys.exit(f"error: {error}")


wildcard_constraints:
    id=r"[^/]+",
    suite="|".join(PLAN.suites),
    dataset="|".join(PLAN.catalogue),
    file="|".join(re.escape(file.name) for entry in PLAN.catalogue.values() for file in entry.files),
    figure="|".join(Path(figure).stem for suite in PLAN.suites for figure in PLAN.figures(suite)) or "none",


onstart:
    logging.getLogger("snakemake.logging").addHandler(FAILURES)
    end_idle_rounds(workflow.scheduler)
    # Rules' `python` is a process forked from one that has the libraries loaded, where that can be.
    if (
        workflow.local_exec
        and workflow.is_main_process
        and not workflow.deployment_settings.deployment_method
    ):
        shell.prefix(f"set -euo pipefail; {shell_function(os.getpid())}")


onerror:
    if FAILURES.logs and workflow.is_main_process:
        print(f"\n{FAILURES.text()}", file=sys.stderr)


def signed(function):
    """Keep a function's signature with it: Snakemake asks for it many times per job."""
    function.__signature__ = inspect.signature(function)
    return function


def inputs(stage):
    """Of a shared store, that an input exists is all that counts: its name covers its content."""
    keep = ancient if PLAN.config.shared_store else lambda path: path
    return signed(
        lambda wildcards: {
            name: [keep(path) for path in paths] if isinstance(paths, list) else keep(paths)
            for name, paths in answered(PLAN.inputs, stage, wildcards.id).items()
        }
    )


def spec(stage):
    return signed(lambda wildcards: PLAN.spec(stage, wildcards.id))


def code(stage):
    return signed(lambda wildcards: PLAN.code_with_plugins(stage, wildcards.id))


def group(stage):
    """On a cluster a training and its evaluations are one job, unless trainings span several nodes."""
    submits = workflow.resource_settings.nodes is not None
    spans_nodes = "mpi" in workflow.resource_settings.overwrite_resources.get("train", {})
    return signed(lambda wildcards: PLAN.group(stage, wildcards.id)) if submits and not spans_nodes else None


def scaled(base):
    return signed(lambda wildcards, attempt: base * attempt)


def answered(question, *arguments):
    """Ask the plan; a target that it does not have ends in one message instead of a traceback."""
    try:
        return question(*arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
