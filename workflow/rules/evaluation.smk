"""Metrics of every run, of the controls, and of other methods on the same keys."""


rule evaluate:
    input:
        learned_similarity,
        weights=ancient(f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors"),
        record=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/provenance.json",
        settings=f"{RESULTS}/settings/evaluation.yaml",
        features=ancient(evaluated_cache),
        identity=evaluated_identity,
    output:
        metrics=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{{image_set}}.csv",
        per_image=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{{image_set}}-per_image.csv",
    log:
        f"{RESULTS}/logs/evaluate-{{setting}}-seed{{seed}}-{{image_set}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(largest_scoring),
        runtime=limit(largest_scoring),
        expected_seconds=expected(scoring),
    params:
        code=code(
            "evaluation/evaluate.py",
            "evaluation/scoring.py",
            "evaluation/protocols.py",
            "evaluation/metrics.py",
            "model/*.py",
            "device.py",
        ),
        run=subpath(input.weights, parent=True),
        out=subpath(output.metrics, parent=True),
        printed=printed_options,
    shell:
        "python -m mmqsa evaluate --run {params.run} --features {input.features}"
        " --settings {input.settings} --out {params.out} {params.printed}"
        " > {log} 2>&1"


rule sweep:
    input:
        weights=ancient(f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors"),
        record=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/provenance.json",
        settings=f"{RESULTS}/settings/sweep.yaml",
        features=ancient(evaluated_cache),
        identity=evaluated_identity,
    output:
        f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{{image_set}}-sweep.csv",
    log:
        f"{RESULTS}/logs/sweep-{{setting}}-seed{{seed}}-{{image_set}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(sweeping),
        runtime=limit(sweeping),
        expected_seconds=expected(sweeping),
    params:
        code=code(
            "evaluation/evaluate.py",
            "evaluation/scoring.py",
            "evaluation/protocols.py",
            "evaluation/metrics.py",
            "model/*.py",
            "device.py",
        ),
        run=subpath(input.weights, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m mmqsa sweep --run {params.run} --features {input.features}"
        " --settings {input.settings} --out {params.out} > {log} 2>&1"


rule agreement:
    input:
        weights=ancient(f"{RESULTS}/runs/{{setting}}/seed{{seed}}/model.safetensors"),
        record=f"{RESULTS}/runs/{{setting}}/seed{{seed}}/provenance.json",
        features=ancient(evaluated_cache),
        identity=evaluated_identity,
    output:
        f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{{image_set}}-agreement.csv",
        f"{RESULTS}/runs/{{setting}}/seed{{seed}}/metrics/{{image_set}}-slots.csv",
    log:
        f"{RESULTS}/logs/agreement-{{setting}}-seed{{seed}}-{{image_set}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPU,
        mem_mb=memory(agreeing),
        runtime=limit(agreeing),
        expected_seconds=expected(agreeing),
    params:
        code=code("evaluation/agreement.py", "model/*.py", "device.py"),
        run=subpath(input.weights, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python -m mmqsa agreement --run {params.run} --features {input.features}"
        " --out {params.out} > {log} 2>&1"


rule controls:
    input:
        features=ancient(evaluated_cache),
        identity=evaluated_identity,
        train=fitting_cache,
        train_identity=fitting_identity,
        settings=f"{RESULTS}/settings/controls.yaml",
    output:
        f"{RESULTS}/controls/{{image_set}}-controls.csv",
    log:
        f"{RESULTS}/logs/controls-{{image_set}}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory(largest_method),
        runtime=limit(largest_method),
        expected_seconds=expected(method),
    params:
        code=code(
            "evaluation/controls.py",
            "evaluation/scoring.py",
            "evaluation/protocols.py",
            "evaluation/metrics.py",
        ),
        out=subpath(output[0], parent=True),
        train=fitting_option,
    shell:
        "python -m mmqsa controls --features {input.features} {params.train}"
        " --settings {input.settings} --out {params.out} > {log} 2>&1"


rule premise:
    input:
        features=ancient(EVAL_CACHE),
        identity=EVAL_IDENTITY,
    output:
        f"{RESULTS}/controls/{EVALUATED}-premise.csv",
    log:
        f"{RESULTS}/logs/premise.log",
    conda:
        "../../environment.yml"
    params:
        code=code("evaluation/premise.py", "model/masking.py"),
        out=subpath(output[0], parent=True),
        ratio=CONFIG.masking.ratio,
    shell:
        "python -m mmqsa premise --features {input.features} --out {params.out}"
        " --ratio {params.ratio} > {log} 2>&1"


rule baseline:
    input:
        features=ancient(evaluated_cache),
        identity=evaluated_identity,
        train=ancient(TRAIN_CACHE),
        train_identity=TRAIN_IDENTITY,
        settings=f"{RESULTS}/settings/baselines.yaml",
    output:
        f"{RESULTS}/controls/{{image_set}}-{{method}}.csv",
    log:
        f"{RESULTS}/logs/{{method}}-{{image_set}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(largest_method),
        runtime=limit(largest_method),
        expected_seconds=expected(method),
    params:
        code=code(
            "evaluation/baselines.py",
            "evaluation/probe.py",
            "evaluation/scoring.py",
            "evaluation/protocols.py",
            "evaluation/metrics.py",
        ),
        out=subpath(output[0], parent=True),
    shell:
        "python -m mmqsa baseline --method {wildcards.method} --features {input.features}"
        " --train {input.train} --settings {input.settings} --out {params.out} > {log} 2>&1"
