# Export a suite's subsets and scores with example ids that outlive the run.
rule export:
    input:
        selections=lambda wildcards: PLAN.selection_inputs(wildcards.suite),
        data=lambda wildcards: PLAN.prepare_inputs(wildcards.suite),
    output:
        registry=f"{STORE}/suites/{{suite}}/registry/registry.json",
    log:
        f"{STORE}/logs/export/{{suite}}.log",
    benchmark:
        f"{STORE}/benchmarks/export/{{suite}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        spec=lambda wildcards: PLAN.suite_spec(wildcards.suite),
        code=code_digest("export"),
    shell:
        "python scripts/export.py --suite {wildcards.suite}"
        " --output $(dirname {output.registry:q}) > {log:q} 2>&1"
