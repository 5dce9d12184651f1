# Fetch a test set that clip-benchmark publishes, and check it: the mirror first, then its hub. A killed fetch continues.
rule hub:
    output:
        manifest=f"{DATA}/{{dataset}}/hub.json",
    log:
        f"{DATA}/logs/{{dataset}}/hub.log",
    benchmark:
        f"{DATA}/benchmarks/{{dataset}}/hub.tsv"
    retries: 0
    conda:
        CORE
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(720),
    params:
        spec=lambda wildcards: PLAN.hub_spec(wildcards.dataset),
    shell:
        "python scripts/hub.py --dataset {wildcards.dataset}"
        " --output {output.manifest:q} 2>&1 | tee {log:q} >&2"
