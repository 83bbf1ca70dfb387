"""Tables (csv, md, tex) and figures (pdf, png)."""


rule table:
    input:
        table_metrics,
        table_references,
        spec=f"{RESULTS}/settings/tables/{{table}}.yaml",
        published="resources/published.csv",
        code=code("reporting/[!f]*.py"),
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        md=report(
            f"{RESULTS}/tables/{{table}}.md",
            category="Tables",
            caption="../report/table.rst",
        ),
        tex=f"{RESULTS}/tables/{{table}}.tex",
    log:
        f"{RESULTS}/logs/table-{{table}}.log",
    conda:
        "../../environment.yml"
    params:
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa table {input.spec} --results {params.results} --published {input.published}"
        " > {log} 2>&1"


rule heads_figure:
    input:
        metrics=f"{RESULTS}/tables/heads.csv",
        spec=f"{RESULTS}/settings/tables/heads.yaml",
        code=code("reporting/results.py", "reporting/figures.py"),
    output:
        png=report(
            f"{RESULTS}/figures/heads.png",
            category="Figures",
            caption="../report/heads.rst",
        ),
        pdf=f"{RESULTS}/figures/heads.pdf",
    log:
        f"{RESULTS}/logs/figure-heads.log",
    conda:
        "../../environment.yml"
    params:
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa figure heads {input.spec} --results {params.results} > {log} 2>&1"


rule controls_figure:
    input:
        table_metrics,
        table_references,
        spec=f"{RESULTS}/settings/tables/{{table}}.yaml",
        code=code("reporting/results.py", "reporting/figures.py"),
    output:
        png=report(
            f"{RESULTS}/figures/{{table}}-controls.png",
            category="Figures",
            caption="../report/controls.rst",
        ),
        pdf=f"{RESULTS}/figures/{{table}}-controls.pdf",
    log:
        f"{RESULTS}/logs/figure-{{table}}-controls.log",
    conda:
        "../../environment.yml"
    params:
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa figure controls {input.spec} --results {params.results} > {log} 2>&1"


rule training_figure:
    input:
        table_histories,
        spec=f"{RESULTS}/settings/tables/{{table}}.yaml",
        code=code("reporting/results.py", "reporting/figures.py"),
    output:
        png=report(
            f"{RESULTS}/figures/{{table}}-training.png",
            category="Figures",
            caption="../report/training.rst",
        ),
        pdf=f"{RESULTS}/figures/{{table}}-training.pdf",
    log:
        f"{RESULTS}/logs/figure-{{table}}-training.log",
    conda:
        "../../environment.yml"
    params:
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa figure training {input.spec} --results {params.results} > {log} 2>&1"


rule gallery:
    input:
        receipt=ancient(f"{DATASET.root}/receipt.json"),
        weights=f"{SHOWCASE}/model.safetensors",
        per_image=f"{SHOWCASE}/metrics/{EVALUATED}-per_image.csv",
        features=ancient(EVAL_CACHE),
        code=code("evaluation/gallery.py", "model/*.py", "reporting/figures.py"),
    output:
        png=report(
            f"{RESULTS}/figures/gallery.png",
            category="Figures",
            caption="../report/gallery.rst",
        ),
        pdf=f"{RESULTS}/figures/gallery.pdf",
    log:
        f"{RESULTS}/logs/figure-gallery.log",
    conda:
        "../../environment.yml"
    params:
        run=subpath(input.weights, parent=True),
        root=subpath(input.receipt, parent=True),
        out=subpath(output.png, strip_suffix=".png"),
    shell:
        "python -m mmqsa figure gallery --run {params.run} --features {input.features}"
        " --voc {params.root} --per-image {input.per_image}"
        " --out {params.out} > {log} 2>&1"
