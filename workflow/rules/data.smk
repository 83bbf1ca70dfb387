"""The data sets, in VOC or COCO layout: downloaded, linked, or (scenes) made."""


# The receipt is the only declared output: Snakemake deletes declared outputs before a rule runs
# again, and photographs that somebody waited for are not to be deleted.
# Its settings are params, not a file below `results`: several configs may share a root.
rule data:
    output:
        receipt="{root}/receipt.json",
    log:
        f"{RESULTS}/logs/data/{{root}}.log",
    retries: 2
    conda:
        "../../environment.yml"
    params:
        stage=stage_of_root,
        settings=data_settings,
    shell:
        "printf '%s' {params.settings:q} |"
        " python -m mmqsa {params.stage} --settings /dev/stdin --out {wildcards.root} > {log} 2>&1"
