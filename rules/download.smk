# Fetch one file of a dataset: mirror first, then its public addresses; checked before it gets its name.
rule fetch:
    output:
        file=f"{DATA}/{{dataset}}/{{file}}",
    log:
        f"{DATA}/logs/{{dataset}}/{{file}}.log",
    benchmark:
        f"{DATA}/benchmarks/{{dataset}}/{{file}}.tsv"
    retries: 0
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(240),
    params:
        spec=lambda wildcards: PLAN.download_spec(wildcards.dataset, wildcards.file),
    shell:
        "python scripts/download.py --dataset {wildcards.dataset}"
        " --file {wildcards.file:q} --output {output.file:q} 2>&1 | tee {log:q} >&2"
