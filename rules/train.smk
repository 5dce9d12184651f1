# Train one model per repetition, on a subset or on all data. The proxy is such a model.
# As many processes share the work as the job has GPUs, with the same result (set-resources: train:gpu=4).
rule train:
    input:
        unpack(inputs("train")),
    output:
        artefact=directory(f"{STORE}/train/{{id}}"),
    log:
        f"{STORE}/logs/train/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/train/{{id}}.tsv"
    group:
        group("train")
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(720),
        gpu=GPUS,
    params:
        spec=spec("train"),
        code=code("train"),
    shell:
        "python scripts/train.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} --processes {resources.gpu} > {log:q} 2>&1"
