# Draw what a suite's methods keep and drop, in its first repetition.
rule look:
    input:
        cells=lambda wildcards: PLAN.collect_inputs(wildcards.suite),
        data=lambda wildcards: PLAN.prepare_inputs(wildcards.suite),
    output:
        page=f"{STORE}/suites/{{suite}}/look/index.html",
    log:
        f"{STORE}/logs/look/{{suite}}.log",
    benchmark:
        f"{STORE}/benchmarks/look/{{suite}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.suite_spec(wildcards.suite),
        code=code_digest("look"),
    shell:
        "python scripts/look.py --suite {wildcards.suite}"
        " --output $(dirname {output.page:q}) > {log:q} 2>&1"
