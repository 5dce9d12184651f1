# What users ask for. Everything is the default.
localrules:
    all,
    figures,
    report,
    download,


rule all:
    default_target: True
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
        [file for dataset in PLAN.datasets for file in PLAN.downloads(dataset)],


for suite in PLAN.suites:

    rule:
        name:
            suite
        input:
            PLAN.suite_targets(suite),
            PLAN.overall_targets() if len(PLAN.suites) == 1 else [],
