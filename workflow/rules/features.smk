"""Feature caches: the backbone's keys and the label maps of an image set, in one HDF5 file."""


rule extract:
    input:
        receipt=ancient(receipt),
        settings=f"{RESULTS}/settings/data/{{dataset}}/features.yaml",
        code=code(
            "features/backbone.py",
            "features/extract.py",
            "data/geometry.py",
            "data/corruptions.py",
            "data/voc.py",
            "device.py",
        ),
    output:
        f"{RESULTS}/features/{{dataset}}/{{file}}.h5",
    log:
        f"{RESULTS}/logs/extract-{{dataset}}-{{file}}.log",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime=240,
    params:
        root=subpath(input.receipt, parent=True),
        split=split,
        variant=variant,
    shell:
        "python -m mmqsa extract --voc {params.root} --split {params.split} {params.variant}"
        " --settings {input.settings} --out {output} > {log} 2>&1"
