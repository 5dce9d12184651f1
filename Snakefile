# Winnow: dataset -> training -> signals -> selection -> training -> evaluation -> evidence -> report.
# `snakemake all`, `snakemake <suite>`, `snakemake figures`, `snakemake report`, `snakemake download`.
configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/prepare.smk"
include: "rules/train.smk"
include: "rules/signals.smk"
include: "rules/selection.smk"
include: "rules/evaluate.smk"
include: "rules/collect.smk"
include: "rules/evidence.smk"
include: "rules/figures.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/targets.smk"
