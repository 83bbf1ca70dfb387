"""Trained runs: one folder per setting and seed, with weights, history and provenance.

And the similarity that is learned on some of them, for the matching of that name. What reads a run
takes its weights as ancient and its record plainly, as with caches (common.smk).
"""


# The resume checkpoint lies undeclared in the run's folder, so a killed training goes on from it.
rule train:
    input:
        features=ancient(TRAIN_CACHE),
        identity=TRAIN_IDENTITY,
        settings=f"{RESULTS}/settings/runs/{{setting}}.yaml",
    output:
        weights=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors",
        settings=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/settings.yaml",
        history=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/history.csv",
        provenance=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/provenance.json",
    log:
        f"{RESULTS}/logs/train-{{setting}}-seed{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(training),
        runtime=limit(training),
        expected_seconds=expected(training),
    params:
        code=code(
            "model/masking.py",
            "model/slot_attention.py",
            "model/decoder.py",
            "model/discovery.py",
            "training/loop.py",
            "training/step.py",
            "training/batches.py",
            "training/schedule.py",
            "training/checkpoint.py",
            "training/run.py",
            "features/resident.py",
            "features/standardise.py",
            "device.py",
        ),
        run=subpath(output.weights, parent=True),
    shell:
        "python -m mmqsa train --features {input.features} --settings {input.settings}"
        " --seed {wildcards.seed} --out {params.run} > {log} 2>&1"


rule similarity:
    input:
        weights=ancient(f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors"),
        record=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/provenance.json",
        features=ancient(TRAIN_CACHE),
        identity=TRAIN_IDENTITY,
        settings=f"{RESULTS}/settings/similarity.yaml",
    output:
        f"{RESULTS}/runs/{{setting}}/seed{{seed}}/similarity.safetensors",
        f"{RESULTS}/runs/{{setting}}/seed{{seed}}/similarity.json",
    log:
        f"{RESULTS}/logs/similarity-{{setting}}-seed{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(learning_similarity),
        runtime=limit(learning_similarity),
        expected_seconds=expected(learning_similarity),
    params:
        code=code(
            "model/*.py",
            "training/similarity.py",
            "training/batches.py",
            "features/resident.py",
            "device.py",
        ),
        run=subpath(input.weights, parent=True),
    shell:
        "python -m mmqsa similarity --run {params.run} --features {input.features}"
        " --settings {input.settings} > {log} 2>&1"
