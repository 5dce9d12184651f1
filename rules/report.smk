# One self-contained HTML page per suite, and one for all of them.
rule suite_report:
    input:
        tables=lambda wildcards: PLAN.tables(wildcards.suite),
        figures=lambda wildcards: PLAN.figures(wildcards.suite),
    output:
        page=f"{STORE}/suites/{{suite}}/report.html",
    log:
        f"{STORE}/logs/report/{{suite}}.log",
    benchmark:
        f"{STORE}/benchmarks/report/{{suite}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.report_spec([wildcards.suite]),
        code=code_digest("report"),
    shell:
        "python scripts/report.py --suite {wildcards.suite}" " --output {output.page:q} > {log:q} 2>&1"


rule overall_report:
    input:
        tables=[table for suite in PLAN.suites for table in PLAN.tables(suite)],
        figures=[figure for suite in PLAN.suites for figure in PLAN.figures(suite)],
    output:
        page=f"{STORE}/report/index.html",
    log:
        f"{STORE}/logs/report.log",
    benchmark:
        f"{STORE}/benchmarks/report.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=PLAN.report_spec(list(PLAN.suites)),
        code=code_digest("report"),
    shell:
        "python scripts/report.py --output {output.page:q} > {log:q} 2>&1"
