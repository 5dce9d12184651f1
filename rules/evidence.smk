# Intervals, paired tests, claims with verdicts, costs, and the paper's numbers beside ours.
rule evidence:
    input:
        metrics=f"{STORE}/suites/{{suite}}/metrics.parquet",
    output:
        summary=f"{STORE}/suites/{{suite}}/summary.parquet",
        cost=f"{STORE}/suites/{{suite}}/cost.parquet",
        reproduction=f"{STORE}/suites/{{suite}}/reproduction.parquet",
        claims=f"{STORE}/suites/{{suite}}/claims.json",
    log:
        f"{STORE}/logs/evidence/{{suite}}.log",
    benchmark:
        f"{STORE}/benchmarks/evidence/{{suite}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.evidence_spec(wildcards.suite),
        code=code_digest("evidence"),
    shell:
        "python scripts/evidence.py --suite {wildcards.suite}"
        " --metrics {input.metrics:q} --output $(dirname {output.claims:q}) > {log:q} 2>&1"
