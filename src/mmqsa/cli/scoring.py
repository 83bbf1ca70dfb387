"""The stages that score runs, baselines and controls, and write their label maps."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmqsa.atomic import claimed
from mmqsa.cli.application import (
    ConfigFile,
    Device,
    Features,
    Only,
    Out,
    RequireGpu,
    RunFolder,
    app,
)

if TYPE_CHECKING:
    from mmqsa.config.evaluation import ScoringConfig
    from mmqsa.training.run import Run


@app.command()
def evaluate(
    run: RunFolder,
    features: Features,
    out: Out,
    config: ConfigFile = None,
    matching: Only = None,
    mask_source: Only = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Score a run: every matching, mask source and evaluation seed, by what the labels allow."""
    from mmqsa.device import choose_device
    from mmqsa.evaluation.evaluate import evaluate as score
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.run import Run

    with claimed(run, shared=True):
        trained, used = Run.load(run), choose_device(device, require_gpu)
        scoring = _scoring(run, trained, config, matching, mask_source)
        print(f"{score(trained, FeatureCache(features), scoring, out, used)}: written")


def _scoring(
    folder: Path,
    trained: "Run",
    config: Path | None,
    matching: list[str] | None,
    mask_source: list[str] | None,
) -> "ScoringConfig":
    """What is asked for; without a config and matchings, all that the run has learned."""
    from mmqsa.config.evaluation import ScoringConfig

    scoring = ScoringConfig.load(config)
    if config is None and not matching:
        missing = {"learned": trained.similarity is None, "fusion": trained.fusion is None}
        matching = [name for name in scoring.matching.strategies if not missing.get(name)]
        for name, command in (("learned", "similarity"), ("fusion", "fusion")):
            if missing[name]:
                print(
                    f"{folder}: no learned {command}; `mmqsa {command}` trains one", file=sys.stderr
                )
    if matching:
        scoring = scoring.changed("--matching", {"matching": {"strategies": matching}})
    if mask_source:
        scoring = scoring.changed("--mask-source", {"evaluation": {"mask_sources": mask_source}})
    return scoring


@app.command("label-maps")
def label_maps(
    features: Features,
    out: Out,
    run: Annotated[Path | None, typer.Option(help="Folder of a trained run.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Or a baseline, such as kmeans, or controls.")
    ] = None,
    train: Annotated[
        Path | None, typer.Option(help="For a method: the training split's cache.")
    ] = None,
    config: ConfigFile = None,
    matching: Only = None,
    mask_source: Only = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Write the label maps of a run or of a method, for the page or for other code."""
    from mmqsa.config.evaluation import BaselineConfig, ControlsConfig
    from mmqsa.device import choose_device
    from mmqsa.errors import InputError
    from mmqsa.evaluation import label_maps as write
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.run import Run

    if (run is None) == (method is None):
        raise InputError("--run, --method: give one of the two")
    if method and (matching or mask_source):
        raise InputError("--matching, --mask-source: of a run; leave them out with --method")
    if run and train:
        raise InputError("--train: of a method; leave it out with --run")
    cache, fitted = FeatureCache(features), FeatureCache(train) if train else None
    if run is not None:
        with claimed(run, shared=True):
            trained, used = Run.load(run), choose_device(device, require_gpu)
            scoring = _scoring(run, trained, config, matching, mask_source)
            path = write.run_label_maps(trained, cache, scoring, out, used)
    elif method == "controls":
        known = ControlsConfig.load(config)
        path = write.control_label_maps(
            cache, out, fitted, known.slots.num_slots, known.evaluation.seeds
        )
    elif fitted is None:
        raise InputError(f"--method {method}: needs --train, to standardise features by")
    else:
        one = {"evaluation": {"baselines": [method]}}
        baselines = BaselineConfig.load(config).changed("--method", one)
        path = write.baseline_label_maps(str(method), cache, fitted, baselines, out)
    print(f"{path}: written")


@app.command()
def sweep(
    run: RunFolder,
    features: Features,
    out: Out,
    config: ConfigFile = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Score a run with other numbers of slots and iterations than it was trained with."""
    from mmqsa.config.evaluation import SweepStageConfig
    from mmqsa.device import choose_device
    from mmqsa.evaluation.evaluate import sweep as score
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.run import Run

    scoring, used = SweepStageConfig.load(config), choose_device(device, require_gpu)
    with claimed(run, shared=True):
        path = score(Run.load(run), FeatureCache(features), scoring, out, used)
    print(f"{path}: written")


@app.command()
def snapshots(
    run: RunFolder,
    features: Features,
    out: Out,
    config: ConfigFile = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Score a run as it was at the steps of training.snapshots, and at its end."""
    from mmqsa.config.evaluation import ScoringConfig
    from mmqsa.device import choose_device
    from mmqsa.evaluation.evaluate import score_snapshots
    from mmqsa.features.cache import FeatureCache

    scoring, used = ScoringConfig.load(config), choose_device(device, require_gpu)
    with claimed(run, shared=True):
        print(f"{score_snapshots(run, FeatureCache(features), scoring, out, used)}: written")


@app.command()
def agreement(
    run: RunFolder,
    features: Features,
    out: Out,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Measure how alike the heads' slots are before and after matching, and how many are used."""
    from mmqsa.device import choose_device
    from mmqsa.evaluation.agreement import score_agreement
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.run import Run

    used = choose_device(device, require_gpu)
    with claimed(run, shared=True):
        print(f"{score_agreement(Run.load(run), FeatureCache(features), out, used)}: written")


@app.command()
def controls(
    features: Features,
    out: Out,
    train: Annotated[
        Path | None, typer.Option(help="Cache to fit fixed boxes on; without it there are none.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Score predictions that look at no image."""
    from mmqsa.config.evaluation import ControlsConfig
    from mmqsa.evaluation.controls import score_controls
    from mmqsa.features.cache import FeatureCache

    controls_config = ControlsConfig.load(config)
    fitted = FeatureCache(train) if train else None
    slots, seeds = controls_config.slots.num_slots, controls_config.evaluation.seeds
    cache = FeatureCache(features)
    with claimed(out / f"{cache.name}-controls.csv"):
        print(f"{score_controls(cache, out, fitted, slots, seeds)}: written")


@app.command()
def premise(
    features: Features,
    train: Annotated[Path, typer.Option(help="The training split's feature cache.")],
    out: Out,
    ratio: Annotated[float, typer.Option(min=0, max=0.99, help="Hidden share of patches.")] = 0.7,
    data: Annotated[
        Path | None, typer.Option(help="Data set root: draw the scores on its photographs too.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Path of that figure, without suffix; needs --data.")
    ] = None,
) -> None:
    """Measure whether background masking hides the background on these features."""
    from mmqsa.errors import InputError
    from mmqsa.evaluation.premise import measure_premise, write_premise
    from mmqsa.features.cache import FeatureCache

    if (data is None) != (figure is None):
        raise InputError("--data, --figure: one without the other; give both or none")
    if figure:
        from mmqsa.reporting.style import figure_paths

        figure_paths(figure)
    cache = FeatureCache(features)
    measured = measure_premise(cache, FeatureCache(train))
    written = write_premise(measured, cache.name, ratio, out)
    if data and figure:
        from mmqsa.data.layouts import open_folder
        from mmqsa.evaluation.premise_figure import draw_premise

        written += draw_premise(measured, cache, open_folder(data), figure)
    print(f"{', '.join(map(str, written))}: written")


@app.command()
def baseline(
    features: Features,
    train: Annotated[Path, typer.Option(help="The training split's cache, to standardise by.")],
    out: Out,
    method: Only = None,
    config: ConfigFile = None,
) -> None:
    """Score baselines on the same features: k-means, LOST, TokenCut, a linear probe and more."""
    from mmqsa.config.evaluation import BaselineConfig
    from mmqsa.evaluation.baselines import score_baseline
    from mmqsa.features.cache import FeatureCache

    baselines = BaselineConfig.load(config)
    if method:
        baselines = baselines.changed("--method", {"evaluation": {"baselines": method}})
    caches = FeatureCache(features), FeatureCache(train)
    for name in baselines.evaluation.baselines:
        print(f"{score_baseline(name, *caches, baselines, out)}: written")
