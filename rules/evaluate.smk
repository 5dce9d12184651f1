# Measure trained models, selections or synthetic sets with a fixed protocol.
rule evaluate:
    input:
        unpack(inputs("evaluate")),
    output:
        artefact=directory(f"{STORE}/evaluate/{{id}}"),
    log:
        f"{STORE}/logs/evaluate/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/evaluate/{{id}}.tsv"
    group:
        group("evaluate")
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(120),
        gpu=GPUS,
    params:
        spec=spec("evaluate"),
        code=code("evaluate"),
    shell:
        "python scripts/evaluate.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} > {log:q} 2>&1"
