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
    params:
        spec=spec("signals"),
        code=code("signals"),
    threads: 1
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(120),
        gpu=GPUS,
    conda:
        CORE
    shell:
        "{PYTHON} scripts/signals.py --spec {params.spec:q} --store {STORE:q} --output {output.artefact:q}"
        " --code {params.code} --device {DEVICE} --threads {threads} > {log:q} 2>&1"
