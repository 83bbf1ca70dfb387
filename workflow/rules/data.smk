"""Data sets, in VOC or COCO layout: downloaded, linked, or (scenes) made."""


# The receipt is the only declared output: Snakemake deletes declared outputs before a rule runs
# again, and photographs must not be deleted. The config is a param, not a file below `results`:
# several configs may share a root.
rule data:
    output:
        receipt="{root}/receipt.json",
    log:
        str(PATHS.log("data/{root}")),
    retries: 2
    conda:
        "../../environment.yml"
    params:
        code=providing_code,
        stage=providing_stage,
        config=providing_config,
    shell:
        "printf '%s' {params.config:q} | PYTHONPATH=$MMQSA_SOURCE python -m mmqsa {params.stage}"
        " --config /dev/stdin --out {wildcards.root:q} > {log:q} 2>&1"


# What a split needs besides, such as SBD's masks: it has a receipt of its own, so that the archive of
# photographs is not fetched again for it.
rule part:
    input:
        receipt="{root}/receipt.json",
    output:
        receipt="{root}/receipt-{part}.json",
    log:
        str(PATHS.log("data/{root}-{part}")),
    retries: 2
    conda:
        "../../environment.yml"
    params:
        config=part_config,
    shell:
        "printf '%s' {params.config:q} | PYTHONPATH=$MMQSA_SOURCE python -m mmqsa download"
        " --part {wildcards.part:q} --config /dev/stdin --out {wildcards.root:q} > {log:q} 2>&1"
