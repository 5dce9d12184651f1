# Draw one figure of a suite as PDF and PNG, beside the CSV it was drawn from.
rule draw:
    input:
        metrics=f"{STORE}/suites/{{suite}}/metrics.parquet",
        summary=f"{STORE}/suites/{{suite}}/summary.parquet",
        cost=f"{STORE}/suites/{{suite}}/cost.parquet",
    output:
        pdf=f"{STORE}/suites/{{suite}}/figures/{{figure}}.pdf",
        png=f"{STORE}/suites/{{suite}}/figures/{{figure}}.png",
        csv=f"{STORE}/suites/{{suite}}/figures/{{figure}}.csv",
    log:
        f"{STORE}/logs/figures/{{suite}}-{{figure}}.log",
    benchmark:
        f"{STORE}/benchmarks/figures/{{suite}}-{{figure}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.figure_spec(wildcards.suite, wildcards.figure),
        code=lambda wildcards: PLAN.figure_code(wildcards.suite, wildcards.figure),
    shell:
        "python scripts/figures.py --spec {params.spec:q} --metrics {input.metrics:q}"
        " --summary {input.summary:q} --cost {input.cost:q} --output {output.png:q} > {log:q} 2>&1"
