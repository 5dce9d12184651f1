# The plan, and the few functions by which rules ask it.
import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "src"))
os.environ["PYTHONPATH"] = os.path.join(workflow.basedir, "src")

from winnow.canonical import canonical_json
from winnow.errors import UserError
from winnow.plan.code import code_digest
from winnow.plan.plan import load_plan

try:
    PLAN = load_plan(config)
except UserError as error:
    sys.exit(f"error: {error}")

PYTHON = sys.executable
STORE = str(PLAN.config.scale_folder)
DATA = f"{PLAN.config.store}/data"
DEVICE = PLAN.config.device
GPUS = 0 if DEVICE == "cpu" else 1
SETTINGS = canonical_json(PLAN.config.model_dump(mode="json"))
CORE = "../envs/core.yaml"


wildcard_constraints:
    id=r"[^/]+",
    suite=r"[a-z][a-z0-9_]*",
    dataset=r"[a-z][a-z0-9_]*",
    file=r"[^/]+",
    figure=r"[^/]+",


def inputs(stage):
    return lambda wildcards: PLAN.inputs(stage, wildcards.id)


def spec(stage):
    return lambda wildcards: PLAN.spec(stage, wildcards.id)


def code(stage):
    return lambda wildcards: PLAN.code(stage, wildcards.id)


def scaled(base):
    return lambda wildcards, attempt: base * attempt
