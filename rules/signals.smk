# Compute what methods need to see of the data, once.
rule signals:
    input:
        unpack(inputs("signals")),
    output:
        artefact=directory(f"{STORE}/signals/{{id}}"),
    log:
        f"{STORE}/logs/signals/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/signals/{{id}}.tsv"
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(120),
        gpu=GPUS,
    params:
        spec=spec("signals"),
        code=code("signals"),
    shell:
        "python scripts/signals.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} > {log:q} 2>&1"
