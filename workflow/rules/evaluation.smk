"""Metrics of every run, of the controls, and of k-means on the same keys."""


rule evaluate:
    input:
        weights=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors",
        settings=f"{RESULTS}/settings/evaluation.yaml",
        features=ancient(EVAL_CACHE),
        code=code(
            "evaluation/evaluate.py",
            "evaluation/scoring.py",
            "evaluation/metrics.py",
            "model/*.py",
            "device.py",
        ),
    output:
        metrics=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{EVALUATED}.csv",
        per_image=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{EVALUATED}-per_image.csv",
    log:
        f"{RESULTS}/logs/evaluate-{{setting}}-seed{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=8000,
        runtime=60,
    params:
        run=subpath(input.weights, parent=True),
    shell:
        "python -m mmqsa evaluate --run {params.run} --features {input.features}"
        " --settings {input.settings} --out {params.run}/metrics"
        " > {log} 2>&1"


rule controls:
    input:
        features=ancient(EVAL_CACHE),
        code=code(
            "evaluation/controls.py",
            "evaluation/premise.py",
            "evaluation/scoring.py",
            "evaluation/metrics.py",
            "model/masking.py",
        ),
    output:
        f"{RESULTS}/controls/{EVALUATED}-controls.csv",
        f"{RESULTS}/controls/{EVALUATED}-premise.csv",
    log:
        f"{RESULTS}/logs/controls.log",
    conda:
        "../../environment.yml"
    params:
        out=subpath(output[0], parent=True),
        ratio=CONFIG.masking.ratio,
    shell:
        "python -m mmqsa controls --features {input.features} --out {params.out}"
        " --ratio {params.ratio} > {log} 2>&1"


rule kmeans:
    input:
        features=ancient(EVAL_CACHE),
        train=ancient(TRAIN_CACHE),
        settings=f"{RESULTS}/settings/baselines.yaml",
        code=code(
            "evaluation/baselines.py", "evaluation/scoring.py", "evaluation/metrics.py"
        ),
    output:
        f"{RESULTS}/controls/{EVALUATED}-kmeans.csv",
    log:
        f"{RESULTS}/logs/kmeans.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        out=subpath(output[0], parent=True),
    shell:
        "python -m mmqsa baseline --features {input.features} --train {input.train}"
        " --settings {input.settings} --out {params.out} > {log} 2>&1"
