"""The data sets, in VOC layout: downloaded, linked, or (scenes) made."""


# The receipt is the only declared output: Snakemake deletes declared outputs before a rule runs
# again, and photographs that somebody waited for are not to be deleted.
rule data:
    input:
        settings=data_settings,
    output:
        receipt="{root}/receipt.json",
    log:
        f"{RESULTS}/logs/data/{{root}}.log",
    retries: 2
    conda:
        "../../environment.yml"
    params:
        stage=stage_of_root,
    shell:
        "python -m mmqsa {params.stage} --settings {input.settings} --out {wildcards.root} > {log} 2>&1"
