# Download the pairs of a published list into shards, and check every one of them. A killed crawl continues.
# img2dataset comes from an environment of its own (`make crawl-env`). As many processes download as there are threads.
rule crawl:
    input:
        list=lambda wildcards: answered(PLAN.crawl_inputs, wildcards.dataset),
    output:
        manifest=f"{DATA}/{{dataset}}/crawl.json",
    log:
        f"{DATA}/logs/{{dataset}}/crawl.log",
    benchmark:
        f"{DATA}/benchmarks/{{dataset}}/crawl.tsv"
    retries: 0
    conda:
        CORE
    threads: 8
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(2880),
    params:
        spec=lambda wildcards: PLAN.crawl_spec(wildcards.dataset),
    shell:
        "python scripts/crawl.py --dataset {wildcards.dataset} --processes {threads}"
        " --output {output.manifest:q} 2>&1 | tee {log:q} >&2"
