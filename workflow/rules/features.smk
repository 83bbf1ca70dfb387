"""Feature caches: the backbone's keys and the label maps of an image set, in one HDF5 file.

Beside each a small file that says what it was made with.
"""


rule extract:
    input:
        receipt=receipt,
        settings=f"{RESULTS}/settings/data/{{dataset}}/features.yaml",
    output:
        cache=f"{RESULTS}/features/{{dataset}}/{{file}}.h5",
        identity=f"{RESULTS}/features/{{dataset}}/{{file}}.json",
    log:
        f"{RESULTS}/logs/extract-{{dataset}}-{{file}}.log",
    conda:
        "../../environment.yml"
    threads: extraction_threads
    resources:
        gpu=GPU,
        mem_mb=memory(extraction),
        runtime=limit(extraction),
        expected_seconds=expected(extraction),
    params:
        code=code(
            "features/backbone.py",
            "features/extract.py",
            "data/geometry.py",
            "data/corruptions.py",
            "data/folder.py",
            "data/voc.py",
            "data/coco.py",
            "device.py",
        ),
        root=subpath(input.receipt, parent=True),
        split=split,
        variant=variant,
    shell:
        "python -m mmqsa extract --data {params.root} --split {params.split} {params.variant}"
        " --settings {input.settings} --out {output.cache} > {log} 2>&1"
