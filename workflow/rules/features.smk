"""Feature caches: backbone features and label maps of an image set, in one HDF5 file."""


# What timm downloads, so that an extraction needs no network: a node of a cluster may have none. The
# config is a param, as with photographs: several configs share the file.
rule weights:
    output:
        FETCHED,
    log:
        str(PATHS.log("weights")),
    retries: 1  # the hub's client tries five times by itself
    conda:
        "../../environment.yml"
    params:
        config=weights_config,
    shell:
        "printf '%s' {params.config:q} | PYTHONPATH=$MMQSA_SOURCE python -m mmqsa weights"
        " --config /dev/stdin --out {output:q} > {log:q} 2>&1"


rule extract:
    input:
        receipt=receipt,
        parts=part_receipts,
        weights=fetched_weights,
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
        weights=lambda wildcards, input: option("--weights", input.weights),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa extract --data {params.root:q}"
        " --split {params.split} {params.variant} {params.weights} --config {input.config:q}"
        " --out {output.cache:q} > {log:q} 2>&1"
