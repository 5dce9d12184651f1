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
    params:
        spec=spec("selection"),
        code=code("selection"),
    threads: 1
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(120),
        gpu=0,
    conda:
        CORE
    shell:
        "{PYTHON} scripts/selection.py --spec {params.spec:q} --store {STORE:q} --output {output.artefact:q}"
        " --code {params.code} --device {DEVICE} --threads {threads} > {log:q} 2>&1"
