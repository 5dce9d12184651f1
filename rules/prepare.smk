# Decode a dataset's files into arrays, once for every suite.
rule prepare:
    input:
        unpack(inputs("prepare")),
    output:
        artefact=directory(f"{STORE}/prepare/{{id}}"),
    log:
        f"{STORE}/logs/prepare/{{id}}.log",
    benchmark:
        f"{STORE}/benchmarks/prepare/{{id}}.tsv"
    params:
        spec=spec("prepare"),
        code=code("prepare"),
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
        gpu=0,
    conda:
        CORE
    shell:
        "{PYTHON} scripts/prepare.py --spec {params.spec:q} --store {STORE:q} --output {output.artefact:q}"
        " --code {params.code} --device {DEVICE} --threads {threads} > {log:q} 2>&1"
