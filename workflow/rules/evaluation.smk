"""Metrics: of every run, of baselines on the same features, and of controls.

Every job writes its scores image by image and object by object, compressed, whichever are printed:
another table then scores nothing again. .gitignore says which of them ship.
"""


rule evaluate:
    input:
        unpack(evaluation_input),
    output:
        metrics=str(PATHS.metrics("{setting}", "{seed}", "{image_set}")),
        per_image=str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "per_image")),
        per_object=str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "per_object")),
    log:
        str(PATHS.log("evaluate-{setting}-seed{seed}-{image_set}")),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(largest_scoring),
        runtime=limit(largest_scoring),
        expected_seconds=expected(scoring),
    params:
        code=code("mmqsa.cli.scoring:evaluate"),
        stage="evaluate",
        run=subpath(input.weights, parent=True),
        out=subpath(output[0], parent=True),
        options=evaluation_options,
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa {params.stage} --run {params.run:q}"
        " --features {input.features:q} --out {params.out:q} {params.options} > {log:q} 2>&1"


use rule evaluate as sweep with:
    input:
        unpack(sweep_input),
    output:
        str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "sweep")),
    log:
        str(PATHS.log("sweep-{setting}-seed{seed}-{image_set}")),
    resources:
        gpu=GPU,
        mem_mb=memory(sweeping_most_slots),
        runtime=limit(sweeping),
        expected_seconds=expected(sweeping),
    params:
        code=code("mmqsa.cli.scoring:sweep"),
        stage="sweep",
        options=lambda wildcards, input: option("--config", input.config),


use rule evaluate as snapshots with:
    input:
        unpack(snapshots_input),
    output:
        str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "snapshots")),
    log:
        str(PATHS.log("snapshots-{setting}-seed{seed}-{image_set}")),
    resources:
        gpu=GPU,
        mem_mb=memory(scoring_snapshots),
        runtime=limit(scoring_snapshots),
        expected_seconds=expected(scoring_snapshots),
    params:
        code=code("mmqsa.cli.scoring:snapshots"),
        stage="snapshots",
        options=lambda wildcards, input: option("--config", input.config),


use rule evaluate as agreement with:
    input:
        unpack(run_and_features),
    output:
        str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "agreement")),
        str(PATHS.metrics("{setting}", "{seed}", "{image_set}", "slots")),
    log:
        str(PATHS.log("agreement-{setting}-seed{seed}-{image_set}")),
    resources:
        gpu=GPU,
        mem_mb=memory(agreeing),
        runtime=limit(agreeing),
        expected_seconds=expected(agreeing),
    params:
        code=code("mmqsa.cli.scoring:agreement"),
        stage="agreement",
        options="",


rule baseline:
    input:
        unpack(baseline_input),
    output:
        metrics=str(PATHS.reference("{image_set}", "{method}")),
        per_image=str(PATHS.reference("{image_set}", "{method}", "per_image")),
        per_object=str(PATHS.reference("{image_set}", "{method}", "per_object")),
    log:
        str(PATHS.log("{method}-{image_set}")),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(largest_method),
        runtime=limit(largest_method),
        expected_seconds=expected(method),
    params:
        code=code("mmqsa.cli.scoring:baseline"),
        stage=lambda wildcards: f"baseline --method {wildcards.method}",
        out=subpath(output.metrics, parent=True),
        train=lambda wildcards, input: option("--train", input.get("train_features")),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa {params.stage} --features {input.features:q}"
        " {params.train} --config {input.config:q} --out {params.out:q} > {log:q} 2>&1"


use rule baseline as controls with:
    input:
        unpack(controls_input),
    output:
        metrics=str(PATHS.reference("{image_set}", "controls")),
        per_image=str(PATHS.reference("{image_set}", "controls", "per_image")),
        per_object=str(PATHS.reference("{image_set}", "controls", "per_object")),
    log:
        str(PATHS.log("controls-{image_set}")),
    params:
        code=code("mmqsa.cli.scoring:controls"),
        stage="controls",


# What the page shows. Scoring a run writes no label maps: a sweep of thousands would fill a disk.
use rule evaluate as label_maps with:
    output:
        str(label_maps_path(PATHS.metrics("{setting}", "{seed}", "{image_set}"))),
    log:
        str(PATHS.log("label-maps-{setting}-seed{seed}-{image_set}")),
    params:
        code=code("mmqsa.cli.scoring:label_maps"),
        stage="label-maps",
        run=subpath(input.weights, parent=True),
        out=subpath(output[0], parent=True),
        options=evaluation_options,


use rule baseline as reference_label_maps with:
    input:
        unpack(reference_input),
    output:
        str(label_maps_path(PATHS.reference("{image_set}", "{reference}"))),
    log:
        str(PATHS.log("label-maps-{reference}-{image_set}")),
    params:
        code=code("mmqsa.cli.scoring:label_maps"),
        stage=lambda wildcards: f"label-maps --method {wildcards.reference}",
        out=subpath(output[0], parent=True),
        train=lambda wildcards, input: option("--train", input.get("train_features")),


rule premise:
    input:
        **cached(EVAL_SET),
        **train_cache(),
        receipt=f"{DATASET.root}/receipt.json",
    output:
        metrics=str(PATHS.reference(EVAL_SET.name, "premise")),
        histogram=str(PATHS.reference(EVAL_SET.name, "premise", "histogram")),
        png=report(
            str(PATHS.figure("showcase", "premise", "png")),
            category="Figures",
            subcategory="Images",
            labels={"figure": "premise"},
            caption="../report/premise.rst",
        ),
        pdf=str(PATHS.figure("showcase", "premise", "pdf")),
    log:
        str(PATHS.log("premise")),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory(whole_cache),
    params:
        code=code("mmqsa.cli.scoring:premise"),
        out=subpath(output.metrics, parent=True),
        root=subpath(input.receipt, parent=True),
        figure=subpath(output.png, strip_suffix=".png"),
        ratio=CONFIG.masking.ratio,
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa premise --features {input.features:q}"
        " --train {input.train_features:q} --out {params.out:q} --ratio {params.ratio}"
        " --data {params.root:q} --figure {params.figure:q} > {log:q} 2>&1"


# Squashed images are scored by boxes, so the premise, which needs label maps, is left out.
PREMISE = [] if EVAL_SET.variant else [str(PATHS.reference(EVAL_SET.name, "premise"))]
