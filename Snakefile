# Winnow: dataset -> training -> signals -> selection -> training -> evaluation -> evidence -> report.
# `snakemake all`, `snakemake <suite>`, `snakemake figures`, `snakemake report`, `snakemake download`.
configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/crawl.smk"
include: "rules/hub.smk"
include: "rules/prepare.smk"
include: "rules/train.smk"
include: "rules/signals.smk"
include: "rules/selection.smk"
include: "rules/distill.smk"
include: "rules/evaluate.smk"
include: "rules/collect.smk"
include: "rules/evidence.smk"
include: "rules/figures.smk"
include: "rules/export.smk"
include: "rules/look.smk"
include: "rules/report.smk"


# Seconds each, or in need of a network: on a cluster these run where Snakemake runs.
localrules:
    all,
    figures,
    report,
    download,
    fetch,
    crawl,
    hub,
    collect,
    gather,
    evidence,
    draw,
    export,
    look,
    suite_report,
    overall_report,


rule all:
    input:
        [target for suite in PLAN.suites for target in PLAN.suite_targets(suite)],
        PLAN.overall_targets(),


rule figures:
    input:
        [figure for suite in PLAN.suites for figure in PLAN.figures(suite)],


rule report:
    input:
        f"{STORE}/report/index.html",


rule download:
    input:
        [file for dataset in PLAN.datasets for file in PLAN.targets(dataset)],


for suite in PLAN.suites:

    rule:
        name:
            suite
        input:
            PLAN.suite_targets(suite),
            PLAN.overall_targets() if len(PLAN.suites) == 1 else [],
