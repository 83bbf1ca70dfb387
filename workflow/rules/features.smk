"""Feature caches: backbone features and label maps of an image set, in one HDF5 file."""


rule extract:
    input:
        receipt=receipt,
        parts=part_receipts,
        config=str(PATHS.stage_config("data/{dataset}/features")),
    output:
        cache=str(PATHS.cache("{dataset}", "{file}")),
        identity=str(PATHS.identity("{dataset}", "{file}")),
    log:
        str(PATHS.log("extract-{dataset}-{file}")),
    conda:
        "../../environment.yml"
    threads: extraction_threads
    resources:
        gpu=GPU,
        mem_mb=memory(extraction),
        runtime=limit(extraction),
        expected_seconds=expected(extraction),
    params:
        code=code("mmqsa.cli.pipeline:extract"),
        root=subpath(input.receipt, parent=True),
        split=lambda wildcards: image_set_of(wildcards).split,
        variant=lambda wildcards: option("--variant", image_set_of(wildcards).variant),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa extract --data {params.root:q}"
        " --split {params.split} {params.variant} --config {input.config:q} --out {output.cache:q}"
        " > {log:q} 2>&1"
