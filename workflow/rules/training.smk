"""Trained runs, a folder per setting and seed, and what merges the heads of some of them."""

RUN = PATHS.run("{setting}", "{seed}")


# The checkpoint lies undeclared in the run's folder, so that a killed training resumes.
rule train:
    input:
        **cached(TRAIN_SET),
        config=str(PATHS.stage_config("runs/{setting}")),
    output:
        weights=str(RUN / WEIGHTS),
        config=str(RUN / RUN_CONFIG),
        history=str(RUN / HISTORY),
        provenance=str(RUN / PROVENANCE),
        snapshots=directory(str(RUN / SNAPSHOTS)),
    log:
        str(PATHS.log("train-{setting}-seed{seed}")),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(training),
        runtime=limit(training),
        expected_seconds=expected(training),
    params:
        code=code("mmqsa.cli.pipeline:train"),
        run=subpath(output.weights, parent=True),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa train --features {input.features:q}"
        " --config {input.config:q} --seed {wildcards.seed} --out {params.run:q} > {log:q} 2>&1"


rule similarity:
    input:
        **trained(RUN),
        **cached(TRAIN_SET),
        config=str(PATHS.stage_config("similarity")),
    output:
        str(RUN / SIMILARITY),
        str((RUN / SIMILARITY).with_suffix(".json")),
    log:
        str(PATHS.log("similarity-{setting}-seed{seed}")),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(learning_similarity),
        runtime=limit(learning_similarity),
        expected_seconds=expected(learning_similarity),
    params:
        code=code("mmqsa.cli.pipeline:similarity"),
        run=subpath(input.weights, parent=True),
        command="similarity",
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa {params.command} --run {params.run:q}"
        " --features {input.features:q} --config {input.config:q} > {log:q} 2>&1"


use rule similarity as fusion with:
    input:
        **trained(RUN),
        **cached(TRAIN_SET),
        config=str(PATHS.stage_config("fusion")),
    output:
        str(RUN / FUSION),
        str((RUN / FUSION).with_suffix(".json")),
    log:
        str(PATHS.log("fusion-{setting}-seed{seed}")),
    resources:
        gpu=GPU,
        mem_mb=memory(learning_fusion),
        runtime=limit(learning_fusion),
        expected_seconds=expected(learning_fusion),
    params:
        code=code("mmqsa.cli.pipeline:fusion"),
        run=subpath(input.weights, parent=True),
        command="fusion",
