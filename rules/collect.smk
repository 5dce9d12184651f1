# Join the cells of a suite into one long table of metrics with their costs.
rule collect:
    input:
        cells=lambda wildcards: PLAN.collect_inputs(wildcards.suite),
    output:
        metrics=f"{STORE}/suites/{{suite}}/metrics.parquet",
    log:
        f"{STORE}/logs/collect/{{suite}}.log",
    benchmark:
        f"{STORE}/benchmarks/collect/{{suite}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.suite_spec(wildcards.suite),
        code=code_digest("collect"),
    shell:
        "python scripts/collect.py --suite {wildcards.suite}" " --output {output.metrics:q} > {log:q} 2>&1"


# Join all suites: one metrics table, one claims ledger, and the index of every artefact.
rule gather:
    input:
        metrics=[f"{STORE}/suites/{suite}/metrics.parquet" for suite in PLAN.suites],
        claims=[f"{STORE}/suites/{suite}/claims.json" for suite in PLAN.suites],
    output:
        metrics=f"{STORE}/metrics.parquet",
        claims=f"{STORE}/claims.json",
        index=f"{STORE}/index.parquet",
    log:
        f"{STORE}/logs/gather.log",
    benchmark:
        f"{STORE}/benchmarks/gather.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=canonical_json([PLAN.suite_spec(suite) for suite in PLAN.suites]),
        code=code_digest("gather"),
    shell:
        "python scripts/gather.py --output $(dirname {output.index:q}) > {log:q} 2>&1"
