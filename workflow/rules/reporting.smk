"""Tables (csv, md, tex; html for the report) and figures (pdf, png)."""


rule table:
    input:
        table_metrics,
        table_references,
        table_runs,
        spec=f"{RESULTS}/settings/tables/{{table}}.yaml",
        published="resources/published.csv",
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        md=f"{RESULTS}/tables/{{table}}.md",
        tex=f"{RESULTS}/tables/{{table}}.tex",
        html=report(
            f"{RESULTS}/tables/{{table}}.html",
            category="Tables",
            subcategory=table_theme,
            labels=table_labels,
            caption="../report/table.rst",
        ),
    log:
        f"{RESULTS}/logs/table-{{table}}.log",
    conda:
        "../../environment.yml"
    params:
        code=code("reporting/*.py"),
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa table {input.spec} --results {params.results} --published {input.published}"
        " > {log} 2>&1"


rule figure:
    input:
        table_metrics,
        table_references,
        table_runs,
        spec=f"{RESULTS}/settings/tables/{{table}}.yaml",
    output:
        png=report(
            f"{RESULTS}/figures/{{table}}-{{kind}}.png",
            category="Figures",
            subcategory="From metrics",
            labels=figure_labels,
            caption="../report/figure.rst",
        ),
        pdf=f"{RESULTS}/figures/{{table}}-{{kind}}.pdf",
    log:
        f"{RESULTS}/logs/figure-{{table}}-{{kind}}.log",
    conda:
        "../../environment.yml"
    params:
        code=code("reporting/*.py"),
        results=subpath(output[0], ancestor=2),
    shell:
        "python -m mmqsa figure metrics {input.spec} --kind {wildcards.kind}"
        " --results {params.results} > {log} 2>&1"


rule gallery:
    input:
        receipt=f"{DATASET.root}/receipt.json",
        weights=ancient(f"{SHOWCASE}/model.safetensors"),
        record=f"{SHOWCASE}/provenance.json",
        per_image=f"{SHOWCASE}/metrics/{EVALUATED}-per_image.csv",
        features=ancient(EVAL_CACHE),
        identity=EVAL_IDENTITY,
    output:
        png=report(
            f"{RESULTS}/figures/showcase-{{gallery}}.png",
            category="Figures",
            subcategory="Images",
            labels=gallery_labels,
            caption="../report/gallery.rst",
        ),
        pdf=f"{RESULTS}/figures/showcase-{{gallery}}.pdf",
    log:
        f"{RESULTS}/logs/showcase-{{gallery}}.log",
    conda:
        "../../environment.yml"
    params:
        code=code(
            "evaluation/gallery.py",
            "evaluation/pictures.py",
            "model/*.py",
            "reporting/style.py",
        ),
        run=subpath(input.weights, parent=True),
        root=subpath(input.receipt, parent=True),
        out=subpath(output.png, strip_suffix=".png"),
    shell:
        "python -m mmqsa figure gallery --kind {wildcards.gallery} --run {params.run}"
        " --features {input.features} --data {params.root} --per-image {input.per_image}"
        " --out {params.out} > {log} 2>&1"
