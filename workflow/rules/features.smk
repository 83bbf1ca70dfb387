"""Feature caches: the backbone's keys and the label maps of an image set, in one HDF5 file."""


def receipt(wildcards):
    """What says that the photographs are there."""
    return f"{CONFIG.datasets[wildcards.dataset].root}/receipt.json"


def split(wildcards):
    """The split of the image set that a cache is called after."""
    return ImageSet.parse(wildcards.file, wildcards.dataset).split


def variant(wildcards):
    """How its images are changed, as an option."""
    changed = ImageSet.parse(wildcards.file, wildcards.dataset).variant
    return f"--variant {changed}" if changed else ""


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
