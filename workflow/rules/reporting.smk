"""Tables (csv, md, tex; html for the report) and figures (pdf, png)."""

SHOWN = (CONFIG.showcase, CONFIG.seeds_of(CONFIG.showcase)[0])
SHOWCASE = PATHS.run(*SHOWN)
PUBLISHED = str(SOURCE / "mmqsa/reporting/published.csv")
GALLERIES = ["gallery", "heads", "iterations"]
TABLES = [
    str(PATHS.table(name, suffix)) for name in PRINTED for suffix in ("csv", "md", "tex", "html")
]
FIGURES = [str(PATHS.figure("showcase", gallery, "png")) for gallery in GALLERIES]
FIGURES += [
    str(PATHS.figure(name, kind, "png"))
    for name, table in PRINTED.items()
    for kind in figures(CONFIG, table)
]


rule table:
    input:
        table_files,
        spec=str(PATHS.stage_config("tables/{table}")),
        published=PUBLISHED,
    output:
        csv=str(PATHS.table("{table}", "csv")),
        md=str(PATHS.table("{table}", "md")),
        tex=str(PATHS.table("{table}", "tex")),
        html=report(
            str(PATHS.table("{table}", "html")),
            category="Tables",
            subcategory=table_category,
            labels=table_labels,
            caption="../report/table.rst",
        ),
    log:
        str(PATHS.log("table-{table}")),
    conda:
        "../../environment.yml"
    params:
        code=code("mmqsa.cli.reporting:table"),
        results=subpath(output[0], ancestor=2),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa table {input.spec:q}"
        " --results {params.results:q} --published {input.published:q} > {log:q} 2>&1"


rule figure:
    input:
        figure_files,
        spec=str(PATHS.stage_config("tables/{table}")),
    output:
        png=report(
            str(PATHS.figure("{table}", "{kind}", "png")),
            category="Figures",
            subcategory="From metrics",
            labels=figure_labels,
            caption="../report/figure.rst",
        ),
        pdf=str(PATHS.figure("{table}", "{kind}", "pdf")),
    log:
        str(PATHS.log("figure-{table}-{kind}")),
    conda:
        "../../environment.yml"
    params:
        code=code("mmqsa.cli.reporting:figure_metrics"),
        results=subpath(output[0], ancestor=2),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa figure metrics {input.spec:q}"
        " --kind {wildcards.kind} --results {params.results:q} > {log:q} 2>&1"


rule gallery:
    input:
        **trained(SHOWCASE),
        **cached(EVAL_SET),
        receipt=f"{DATASET.root}/receipt.json",
        per_image=str(PATHS.metrics(*SHOWN, EVAL_SET.name, "per_image")),
    output:
        png=report(
            str(PATHS.figure("showcase", "{gallery}", "png")),
            category="Figures",
            subcategory="Images",
            labels=gallery_labels,
            caption="../report/gallery.rst",
        ),
        pdf=str(PATHS.figure("showcase", "{gallery}", "pdf")),
    log:
        str(PATHS.log("showcase-{gallery}")),
    conda:
        "../../environment.yml"
    params:
        code=code("mmqsa.cli.reporting:figure_gallery"),
        run=subpath(input.weights, parent=True),
        root=subpath(input.receipt, parent=True),
        out=subpath(output.png, strip_suffix=".png"),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa figure gallery --kind {wildcards.gallery}"
        " --run {params.run:q} --features {input.features:q} --data {params.root:q}"
        " --per-image {input.per_image:q} --out {params.out:q} > {log:q} 2>&1"


rule page:
    input:
        page_files(),
        TABLES,
        FIGURES,
        PREMISE,
        **cached(EVAL_SET),
        spec=str(PATHS.stage_config("page")),
        receipt=f"{DATASET.root}/receipt.json",
    output:
        directory(str(PATHS.page)),
    log:
        str(PATHS.log("page")),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory(all_masks),
        runtime=limit(all_masks),
    params:
        code=code("mmqsa.cli.reporting:page"),
        results=subpath(output[0], parent=True),
        root=subpath(input.receipt, parent=True),
    shell:
        "PYTHONPATH=$MMQSA_SOURCE python -m mmqsa page {input.spec:q} --results {params.results:q}"
        " --features {input.features:q} --data {params.root:q} --out {output:q} > {log:q} 2>&1"
