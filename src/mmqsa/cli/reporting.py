"""Tables and figures: from metrics alone, and those that need a run and photographs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mmqsa.cli.application import DataRoot, Features, Json, Out, RunFolder, app
from mmqsa.config.choices import MaskSource, MatchingName
from mmqsa.errors import InputError

ResultsFolder = Annotated[Path, typer.Option(help="Results folder.", exists=True, file_okay=False)]
Published = Annotated[
    Path | None, typer.Option(help="Published numbers with sources; default: the package's.")
]
Specs = Annotated[list[Path], typer.Argument(help="Specs of tables (RESULTS/config/tables/*).")]
PerImage = Annotated[Path, typer.Option(help="per_image.csv.gz of the run on these features.")]


Stem = Annotated[Path, typer.Option(help="Path of the figure, without suffix.")]

figure = typer.Typer(help="Draw figures: pdf and png.", no_args_is_help=True)
app.add_typer(figure, name="figure")


@app.command()
def specs(
    configs: Annotated[list[Path], typer.Argument(help="config.yaml, and files on top of it.")],
    out: Out,
    page: Annotated[
        Path | None, typer.Option(help="Also write the spec of the page, such as page.yaml.")
    ] = None,
) -> None:
    """Write the spec of every table in a config, to make tables without Snakemake."""
    from mmqsa.atomic import write_text
    from mmqsa.config.workflow import Config
    from mmqsa.reporting.results import load_spec, table_spec

    config = Config.load(*configs)
    paths = {name: out / f"{name}.yaml" for name in config.tables}
    for path in paths.values():
        if path.exists():
            load_spec(path)  # something else would be lost
    for name, path in paths.items():
        write_text(path, table_spec(config, name))
    if page:
        from mmqsa.page.spec import load_spec as load_page_spec
        from mmqsa.page.spec import page_spec

        if page.exists():
            load_page_spec(page)
        write_text(page, page_spec(config))
    print(f"{out}: specs of {', '.join(config.tables)}")


@app.command()
def plan(
    cores: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Default: this machine's.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="Default: this machine's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sum up the plan on standard input: `snakemake -n … | mmqsa plan` prints hours and memory."""
    import os
    import sys

    from mmqsa.gpus import num_gpus
    from mmqsa.reporting.plan import MAX_BYTES, read_plan

    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"standard input: a plan of more than {MAX_BYTES // 10**6} MB; split it")
    found = read_plan(content.decode(errors="replace"))
    table = found.table()
    if as_json:
        print(table.to_json(orient="records"))
        return
    machine = cores or os.cpu_count() or 1, num_gpus() if gpus is None else gpus
    print(table.to_markdown(index=False, floatfmt=".1f", intfmt=","))
    print(f"\n{found.words(*machine)}")


@app.command()
def table(specs: Specs, results: ResultsFolder, published: Published = None) -> None:
    """Make tables from metrics alone: csv, md, tex and html."""
    from mmqsa.paths import Paths
    from mmqsa.reporting.results import Results, load_spec, read_published
    from mmqsa.reporting.tables import make_table

    paths, values = Paths(results), read_published(published)
    for spec in specs:
        print(f"{make_table(Results(load_spec(spec), paths, values))[1]}: written")


@app.command()
def leaderboard(
    results: ResultsFolder,
    image_set: Annotated[
        str | None, typer.Option(help="Such as voc2012-val; default: the only one.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="That orders the rows; default: mbo_c, else corloc.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Default: those that tables print, paper first.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="This setting only; may be repeated.")
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(help="Compare this row only, by its name in the table; may be repeated."),
    ] = None,
    mask_source: Annotated[MaskSource, typer.Option(help="Of the settings.")] = "attention",
    matching: Annotated[MatchingName, typer.Option(help="Of the settings.")] = "hungarian",
    as_json: Json = False,
) -> None:
    """Set all that is scored on the same images side by side, tested in pairs; needs no config."""
    from mmqsa.paths import Paths
    from mmqsa.reporting.found import leaderboard_spec, make_leaderboard
    from mmqsa.reporting.image_sets import chosen_image_set
    from mmqsa.reporting.results import Results, read_published
    from mmqsa.reporting.typeset import to_markdown

    paths = Paths(results)
    images = chosen_image_set(paths, image_set)
    spec = leaderboard_spec(paths, images, matching, mask_source, setting, protocol)
    found = Results(spec, paths, read_published())
    files, table, printed = make_leaderboard(found, metric or "", row or ())
    if as_json:
        own = table["against"] == ""
        rows = {"rows": table[own].drop(columns=["against"]), "pairs": table[~own]}
        known = {
            name: [row.dropna().to_dict() for _, row in part.iterrows()]
            for name, part in rows.items()
        }
        print(json.dumps({"image_set": images} | known | {"files": [str(path) for path in files]}))
        return
    print(to_markdown(printed))
    print(f"{', '.join(map(str, files))}: written")


@app.command()
def join(specs: Specs, out: Out, published: Published = None) -> None:
    """Make one table of several results folders, and one of their backbones' premises."""
    from mmqsa.paths import Paths
    from mmqsa.reporting.join import join as run_join
    from mmqsa.reporting.join import results_of
    from mmqsa.reporting.results import Results, load_spec, read_published

    values = read_published(published)
    several = [Results(load_spec(spec), Paths(results_of(spec)), values) for spec in specs]
    print(f"{', '.join(map(str, run_join(several, out)))}: written")


@app.command()
def page(
    spec: Annotated[Path, typer.Argument(help="RESULTS/config/page.yaml.")],
    results: ResultsFolder,
    features: Annotated[
        Path | None, typer.Option(help="Feature cache of the images; without it none is shown.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data set root, for its photographs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: RESULTS/page.")] = None,
) -> None:
    """Make the page: the answer on one screen, and the masks of every image."""
    from mmqsa.page.build import Explorer, make_page
    from mmqsa.page.spec import load_spec
    from mmqsa.paths import Paths

    if (features is None) != (data is None):
        raise InputError("--features, --data: one without the other; give both or none")
    parts, paths = load_spec(spec), Paths(results)
    explorer: Explorer | None = None
    if features and data:
        from functools import partial

        from mmqsa.data.layouts import open_folder
        from mmqsa.features.cache import FeatureCache
        from mmqsa.page.explorer import write_explorer

        cache, folder = FeatureCache(features), open_folder(data)
        explorer = partial(write_explorer, parts, paths, cache, folder)
    print(f"{make_page(parts, paths, out or paths.page, explorer)}: written")


@figure.command("metrics")
def figure_metrics(
    specs: Specs,
    results: ResultsFolder,
    kind: Annotated[
        str | None, typer.Option(help="One of a table's figures; default: all.")
    ] = None,
) -> None:
    """Draw the figures of tables, from metrics alone."""
    from mmqsa.paths import Paths
    from mmqsa.reporting.figures import draw
    from mmqsa.reporting.results import Results, load_spec, read_published

    for path in specs:
        spec = load_spec(path)
        if kind is not None and kind not in spec.table.drawn:
            drawn = ", ".join(spec.table.drawn)
            expected = f"expected one of {drawn}" if drawn else "it has none"
            raise InputError(f"--kind {kind}: no figure of the table {spec.name}; {expected}")
        for name in [kind] if kind else spec.table.drawn:
            print(f"{draw(name, Results(spec, Paths(results), read_published()))[0]}: written")


@figure.command("gallery")
def figure_gallery(
    run: RunFolder,
    features: Features,
    data: DataRoot,
    per_image: PerImage,
    out: Stem,
    kind: Annotated[
        str,
        typer.Option(
            help="gallery: images from best to worst; heads: best, median and worst with every "
            "head; iterations: one image after every iteration."
        ),
    ] = "gallery",
) -> None:
    """Draw images with ground truth, masks and boxes; none is picked by hand."""
    from mmqsa.data.layouts import open_folder
    from mmqsa.evaluation.gallery import GALLERIES
    from mmqsa.features.cache import FeatureCache
    from mmqsa.reporting.style import figure_paths
    from mmqsa.training.run import Run

    figure_paths(out)
    if kind not in GALLERIES:
        raise InputError(f"--kind {kind}: unknown gallery; expected one of {', '.join(GALLERIES)}")
    sources = Run.load(run), FeatureCache(features), open_folder(data)
    print(f"{GALLERIES[kind](*sources, per_image, out)[0]}: written")
