# Choose examples: one method, one variant, one budget (or all budgets where it is nested).
rule selection:
    input:
        unpack(inputs("selection")),
    output:
        artefact=directory(f"{STORE}/selection/{{id}}"),
    log:
        f"{STORE}/logs/selection/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/selection/{{id}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(120),
        gpu=0,
    params:
        spec=spec("selection"),
        code=code("selection"),
    shell:
        "python scripts/selection.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} > {log:q} 2>&1"
