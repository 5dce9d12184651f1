# Draw one figure of a suite as PDF and PNG, beside the CSV it was drawn from.
rule draw:
    input:
        summary=f"{STORE}/suites/{{suite}}/summary.parquet",
        cost=f"{STORE}/suites/{{suite}}/cost.parquet",
    output:
        multiext(f"{STORE}/suites/{{suite}}/figures/{{figure}}", ".pdf", ".png", ".csv"),
    log:
        f"{STORE}/logs/figures/{{suite}}-{{figure}}.log",
    benchmark:
        f"{STORE}/benchmarks/figures/{{suite}}-{{figure}}.tsv"
    params:
        spec=lambda wildcards: PLAN.figure_spec(wildcards.suite, wildcards.figure),
        code=lambda wildcards: PLAN.figure_code(wildcards.suite, wildcards.figure),
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    conda:
        CORE
    shell:
        "{PYTHON} scripts/figures.py --spec {params.spec:q} --summary {input.summary:q}"
        " --cost {input.cost:q} --output {output[1]:q} > {log:q} 2>&1"
