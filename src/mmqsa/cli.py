"""``mmqsa STAGE …``: each stage of the pipeline from files to files.

Thin on purpose: parse, call, say in one line what was done. A stage's modules are imported when
it is called, so that ``--help`` answers at once and tables need no torch.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmqsa.errors import InputError
from mmqsa.settings import Evaluation, Matching, Settings, validated

app = typer.Typer(
    help="Masked multi-query slot attention, from photographs to the paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Resolved settings file; default: the paper's.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", envvar="MMQSA_DEVICE")]
RequireGpu = Annotated[
    bool,
    typer.Option("--require-gpu", help="Stop where there is no GPU.", envvar="MMQSA_REQUIRE_GPU"),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Features = Annotated[Path, typer.Option(help="Feature cache (.h5).")]
Results = Annotated[Path, typer.Option(help="Results folder.")]
Published = Annotated[Path, typer.Option(help="Published numbers with their sources.")]
SpecFile = Annotated[Path, typer.Argument(help="A table's spec.")]
RunFolder = Annotated[Path, typer.Option(help="Folder of a trained run.")]

figure = typer.Typer(help="Draw a figure: pdf and png.", no_args_is_help=True)
app.add_typer(figure, name="figure")


def _settings(path: Path | None) -> Settings:
    return Settings.load(path) if path else Settings()


@app.command()
def download(out: Out, settings: SettingsFile = None) -> None:
    """Fetch, check and unpack PASCAL VOC 2012, or link a folder that holds it."""
    from mmqsa.data.download import download as run

    source = run(_settings(settings).dataset, out)
    print(f"{out}: VOC folder ready, from {source}")


@app.command()
def scenes(out: Out, settings: SettingsFile = None) -> None:
    """Write the synthetic scenes, in VOC layout."""
    from mmqsa.data.scenes import write_scenes

    print(f"{out}: {write_scenes(_settings(settings).dataset.scenes, out)} scenes")


@app.command()
def extract(
    voc: Annotated[Path, typer.Option(help="VOC folder, or a folder that holds one.")],
    split: Annotated[
        str,
        typer.Option(
            help="train, val, trainval, trainaug, all-but-val, or a detection list: "
            "detection-trainval."
        ),
    ],
    out: Out,
    settings: SettingsFile = None,
    variant: Annotated[
        str,
        typer.Option(
            help="Another geometry than the settings' (crop, squash, released), or a corruption "
            "and its severity (noise, blur, contrast, jpeg, fog, pixelate; 1-5): fog3."
        ),
    ] = "",
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Cache the backbone's patch features of a split, with its label maps and boxes."""
    from mmqsa.data.corruptions import Corruption
    from mmqsa.data.voc import VocFolder
    from mmqsa.device import choose_device
    from mmqsa.features.extract import extract as run

    chosen = _settings(settings)
    if variant in ("crop", "squash", "released"):
        dataset = chosen.dataset.model_copy(update={"geometry": variant})
        chosen, variant = chosen.model_copy(update={"dataset": dataset}), ""
    corruption = Corruption.parse(variant) if variant else None
    done = run(
        VocFolder.find(voc),
        split,
        chosen,
        out,
        choose_device(device, require_gpu),
        corruption,
    )
    print(f"{out}: {done} images extracted" if done else f"{out}: already whole")


@app.command()
def train(
    features: Features,
    out: Out,
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches, heads and noise.")] = 0,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Train one run on a feature cache; a killed one goes on where it was."""
    from mmqsa.device import choose_device
    from mmqsa.features.store import FeatureCache
    from mmqsa.training.loop import train as run

    done = run(
        FeatureCache(features), _settings(settings), seed, out, choose_device(device, require_gpu)
    )
    print(
        f"{out}: loss {done['final_loss']}, {done['seconds']} s, "
        f"{done['images_per_second']} images/s on {done['device']}"
    )


@app.command()
def evaluate(
    run: RunFolder,
    features: Features,
    out: Out,
    settings: Annotated[
        Path | None, typer.Option(help="Matching and evaluation settings; default: the run's.")
    ] = None,
    matching: Annotated[
        list[str] | None, typer.Option(help="Of the settings' matchings, only this.")
    ] = None,
    mask_source: Annotated[
        list[str] | None, typer.Option(help="Of the settings' mask sources, only this.")
    ] = None,
    label_maps: Annotated[
        bool, typer.Option("--label-maps", help="Write what is scored, for other code to score.")
    ] = False,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Score a run: every matching, mask source and evaluation seed, by what the labels allow."""
    from mmqsa.device import choose_device
    from mmqsa.evaluation.evaluate import evaluate as score
    from mmqsa.features.store import FeatureCache
    from mmqsa.training.run import Run

    trained = Run.load(run)
    chosen = Settings.load(settings) if settings else trained.settings
    if settings is None and trained.similarity is None and not matching:
        matching = [name for name in chosen.matching.strategies if name != "learned"]
        print(f"{run}: no learned similarity here; `mmqsa similarity` makes one", file=sys.stderr)
    chosen = _only(chosen, matching, mask_source)
    path = score(
        trained, FeatureCache(features), chosen, out, choose_device(device, require_gpu), label_maps
    )
    print(f"{path}: written")


def _only(
    settings: Settings,
    matchings: list[str] | None = None,
    sources: list[str] | None = None,
    methods: list[str] | None = None,
) -> Settings:
    """The settings with those matchings, mask sources and baselines alone, where any are named."""
    matching, evaluation = settings.matching.model_dump(), settings.evaluation.model_dump()
    matching |= {"strategies": matchings} if matchings else {}
    evaluation |= {"mask_sources": sources} if sources else {}
    evaluation |= {"baselines": methods} if methods else {}
    parts = {
        "matching": validated(Matching, matching, "--matching"),
        "evaluation": validated(Evaluation, evaluation, "--mask-source, --method"),
    }
    return settings.model_copy(update=parts)


@app.command()
def sweep(
    run: RunFolder,
    features: Features,
    out: Out,
    settings: Annotated[
        Path | None, typer.Option(help="Evaluation settings; default: the run's.")
    ] = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Score a run with other numbers of slots and iterations than it was trained with."""
    from mmqsa.device import choose_device
    from mmqsa.evaluation.evaluate import sweep as score
    from mmqsa.features.store import FeatureCache
    from mmqsa.training.run import Run

    trained = Run.load(run)
    chosen = Settings.load(settings) if settings else trained.settings
    path = score(trained, FeatureCache(features), chosen, out, choose_device(device, require_gpu))
    print(f"{path}: written")


@app.command()
def similarity(
    run: RunFolder,
    features: Annotated[Path, typer.Option(help="The training split's feature cache.")],
    settings: SettingsFile = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Learn the similarity of a run's slots, for the matching `learned`; the run stays as it is."""
    from mmqsa.device import choose_device
    from mmqsa.features.store import FeatureCache
    from mmqsa.training.run import SIMILARITY, Run
    from mmqsa.training.similarity import train_similarity

    first, last = train_similarity(
        Run.load(run),
        FeatureCache(features),
        _settings(settings).matching.similarity,
        run,
        choose_device(device, require_gpu),
    )
    print(f"{run / SIMILARITY}: loss {first:.4f} at first, {last:.4f} at last")


@app.command()
def controls(
    features: Features,
    out: Out,
    train: Annotated[
        Path | None, typer.Option(help="Cache to fit fixed boxes on; without it there are none.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Score predictions that look at no image."""
    from mmqsa.evaluation.controls import score_controls
    from mmqsa.features.store import FeatureCache

    chosen = _settings(settings)
    fitted = FeatureCache(train) if train else None
    slots, seeds = chosen.slots.number, chosen.evaluation.seeds
    print(f"{score_controls(FeatureCache(features), out, fitted, slots, seeds)}: written")


@app.command()
def premise(
    features: Features,
    out: Out,
    ratio: Annotated[float, typer.Option(min=0, max=0.99, help="Hidden share of patches.")] = 0.7,
) -> None:
    """Measure whether background masking hides the background on these keys."""
    from mmqsa.evaluation.premise import score_premise
    from mmqsa.features.store import FeatureCache

    print(f"{score_premise(FeatureCache(features), ratio, out)}: written")


@app.command()
def baseline(
    features: Features,
    train: Annotated[Path, typer.Option(help="The training split's cache, to standardise by.")],
    out: Out,
    method: Annotated[
        list[str] | None, typer.Option(help="Only this; default: the settings' all.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Score other methods on the same keys: k-means, LOST, TokenCut, a linear probe and more."""
    from mmqsa.evaluation.baselines import score_baseline
    from mmqsa.features.store import FeatureCache

    chosen = _only(_settings(settings), methods=method)
    caches = FeatureCache(features), FeatureCache(train)
    for name in chosen.evaluation.baselines:
        print(f"{score_baseline(name, *caches, chosen, out)}: written")


@app.command()
def specs(
    configs: Annotated[list[Path], typer.Argument(help="config.yaml, and files on top of it.")],
    out: Out,
) -> None:
    """Write the spec of every table in a config, to make tables without Snakemake."""
    from mmqsa.atomic import write_text
    from mmqsa.config import Config
    from mmqsa.reporting.results import table_spec

    config = Config.load(*configs)
    for name in config.tables:
        write_text(out / f"{name}.yaml", table_spec(config, name))
    print(f"{out}: specs of {', '.join(config.tables)}")


@app.command()
def table(
    specs: Annotated[list[Path], typer.Argument(help="Table specs (RESULTS/settings/tables/*).")],
    results: Results,
    published: Published = Path("resources/published.csv"),
) -> None:
    """Make tables from metrics alone: csv, md and tex."""
    from mmqsa.reporting.results import load_spec
    from mmqsa.reporting.tables import make_table

    for spec in specs:
        print(f"{make_table(load_spec(spec), results, published)[1]}: written")


@figure.command("heads")
def figure_heads(spec: SpecFile, results: Results) -> None:
    """Metrics against the number of heads."""
    from mmqsa.reporting.figures import heads_figure
    from mmqsa.reporting.results import load_spec

    print(f"{heads_figure(load_spec(spec), results)[0]}: written")


@figure.command("controls")
def figure_controls(spec: SpecFile, results: Results) -> None:
    """A table's settings beside k-means and the controls."""
    from mmqsa.reporting.figures import methods_figure
    from mmqsa.reporting.results import load_spec

    print(f"{methods_figure(load_spec(spec), results)[0]}: written")


@figure.command("training")
def figure_training(spec: SpecFile, results: Results) -> None:
    """Training curves of a table's settings."""
    from mmqsa.reporting.figures import training_figure
    from mmqsa.reporting.results import load_spec

    print(f"{training_figure(load_spec(spec), results)[0]}: written")


@figure.command("gallery")
def figure_gallery(
    run: RunFolder,
    features: Features,
    voc: Annotated[Path, typer.Option(help="VOC folder, or a folder that holds one.")],
    per_image: Annotated[Path, typer.Option(help="per_image.csv of the run on these features.")],
    out: Annotated[Path, typer.Option(help="Path of the figure, without suffix.")],
    images: Annotated[int, typer.Option(min=1, max=64, help="Rows.")] = 6,
) -> None:
    """Images with ground truth, masks and boxes, from best to worst."""
    from mmqsa.data.voc import VocFolder
    from mmqsa.evaluation.gallery import gallery
    from mmqsa.features.store import FeatureCache
    from mmqsa.training.run import Run

    drawn = gallery(
        Run.load(run), FeatureCache(features), VocFolder.find(voc), per_image, out, images
    )
    print(f"{drawn[0]}: written")


def main() -> None:
    """Run the command line: bad input is one line and exit code 1."""
    try:
        app()
    except InputError as error:
        print(f"mmqsa: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
