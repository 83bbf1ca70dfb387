"""Feature caches: the backbone's keys and the label maps of a split, in one HDF5 file."""


rule extract:
    input:
        receipt=ancient(f"{DATASET.root}/receipt.json"),
        settings=f"{RESULTS}/settings/features.yaml",
        code=code(
            "features/backbone.py",
            "features/extract.py",
            "data/geometry.py",
            "data/voc.py",
            "device.py",
        ),
    output:
        f"{RESULTS}/features/{DATASET.name}/{{split}}.h5",
    log:
        f"{RESULTS}/logs/extract-{{split}}.log",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime=240,
    params:
        root=subpath(input.receipt, parent=True),
    shell:
        "python -m mmqsa extract --voc {params.root} --split {wildcards.split}"
        " --settings {input.settings} --out {output} > {log} 2>&1"
