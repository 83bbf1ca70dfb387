"""The data set, in VOC layout: downloaded, linked, or (scenes) made."""


# The receipt is the only declared output: Snakemake deletes declared outputs before a rule runs
# again, and photographs that somebody waited for are not to be deleted.
rule data:
    input:
        settings=f"{RESULTS}/settings/{DATA_STAGE}.yaml",
    output:
        receipt=f"{DATASET.root}/receipt.json",
    log:
        f"{RESULTS}/logs/data.log",
    retries: 2
    conda:
        "../../environment.yml"
    params:
        root=subpath(output.receipt, parent=True),
        stage=DATA_STAGE,
    shell:
        "python -m mmqsa {params.stage} --settings {input.settings} --out {params.root} > {log} 2>&1"
