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
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
        gpu=0,
    params:
        spec=spec("prepare"),
        code=code("prepare"),
    shell:
        "python scripts/prepare.py --spec {params.spec:q} --output {output.artefact:q}"
        " --code {params.code} --threads {threads} > {log:q} 2>&1"
