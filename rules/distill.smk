# Make synthetic examples: one method, one variant, one budget.
rule distill:
    input:
        unpack(inputs("distill")),
    output:
        artefact=directory(f"{STORE}/distill/{{id}}"),
    log:
        f"{STORE}/logs/distill/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/distill/{{id}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(1440),
        gpu=GPUS,
    params:
        spec=spec("distill"),
        code=code("distill"),
    shell:
        "python scripts/distill.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} > {log:q} 2>&1"
