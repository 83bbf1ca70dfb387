"""The stages that lead from photographs to trained runs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from mmqsa.cli.application import (
    ConfigFile,
    DataRoot,
    Device,
    Features,
    Json,
    Out,
    RequireGpu,
    RunFolder,
    app,
)
from mmqsa.config.choices import GeometryName, PartName

if TYPE_CHECKING:
    from mmqsa.config.evaluation import FusionConfig, SimilarityConfig

STOPPED = 143  # what shells say of a process that SIGTERM ended


@app.command()
def download(
    out: Out,
    config: ConfigFile = None,
    part: Annotated[
        PartName | None,
        typer.Option(
            help="What a split needs besides: SBD's masks for trainaug, or the list of COCO 20k. "
            "--out already holds the data set."
        ),
    ] = None,
) -> None:
    """Fetch, check and unpack VOC 2012 or 2007, COCO 2017 or 20k, or link a folder that has it."""
    from mmqsa.config.data import DownloadConfig
    from mmqsa.data.download import download as run

    dataset = DownloadConfig.load(config).dataset
    if part is None:
        print(f"{out}: data set ready, from {run(dataset, out)}")
        return
    from mmqsa.data.parts import fetch_part

    print(f"{out}: {part} ready, from {fetch_part(dataset, part, out)}")


@app.command()
def scenes(out: Out, config: ConfigFile = None) -> None:
    """Write the synthetic scenes, in VOC layout."""
    from mmqsa.config.data import SceneryConfig
    from mmqsa.data.scenes import write_scenes

    scenes_config = SceneryConfig.load(config).dataset.scenes
    print(f"{out}: {write_scenes(scenes_config, out)} scenes")


@app.command()
def weights(
    out: Annotated[Path, typer.Option(help="The file to write, NAME.safetensors.")],
    config: ConfigFile = None,
) -> None:
    """Fetch the backbone's weights that timm has, for an extraction without the network."""
    from mmqsa.config.data import WeightsConfig
    from mmqsa.features.backbone import native_network
    from mmqsa.features.weights import fetch_weights

    backbone = WeightsConfig.load(config).backbone
    done = fetch_weights(backbone, native_network(backbone), out)
    print(f"{out}: weights of {backbone.name}" if done else f"{out}: already there")


@app.command()
def extract(
    data: DataRoot,
    split: Annotated[
        str,
        typer.Option(
            help="train, val, trainval, trainaug, all-but-val, or a detection list: "
            "detection-trainval."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The feature cache to write, NAME.h5.")],
    config: ConfigFile = None,
    variant: Annotated[
        str,
        typer.Option(
            help="Another geometry than the config's (crop, squash, released, or native: "
            "photographs at their own size, for boxes alone), or a corruption and its severity "
            "(noise, blur, contrast, jpeg, fog, pixelate; 1-5): fog3."
        ),
    ] = "",
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Images per pass; default: the config's.",
            envvar="MMQSA_EXTRACTION_BATCH",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="What `mmqsa weights` wrote; default: timm downloads the weights."),
    ] = None,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Cache the backbone's patch features of a split, with its label maps and boxes."""
    from mmqsa.config.data import ExtractionConfig
    from mmqsa.data.corruptions import Corruption
    from mmqsa.data.layouts import open_folder
    from mmqsa.device import choose_device
    from mmqsa.features.extract import extract as run

    extraction = ExtractionConfig.load(config)
    if variant in get_args(GeometryName):
        dataset = extraction.dataset.model_copy(update={"geometry": variant})
        extraction, variant = extraction.model_copy(update={"dataset": dataset}), ""
    corruption = Corruption.parse(variant) if variant else None
    folder, used = open_folder(data), choose_device(device, require_gpu)
    done = run(folder, split, extraction, out, used, corruption, batch_size, weights)
    print(f"{out}: {done} images extracted" if done else f"{out}: already whole")


@app.command()
def train(
    features: Features,
    out: Out,
    config: ConfigFile = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of weights, batches, heads and noise.")
    ] = 0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Remove the run that is there, with its metrics, first."),
    ] = False,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
    as_json: Json = False,
) -> None:
    """Train one run on a feature cache; a killed one goes on where it was."""
    from mmqsa.config.training import RunConfig
    from mmqsa.device import choose_device
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.loop import train as run
    from mmqsa.training.signals import Stopped

    used = choose_device(device, require_gpu)
    try:
        settings, cache = RunConfig.load(config), FeatureCache(features)
        done = run(cache, settings, seed, out, used, overwrite=overwrite)
    except Stopped as stopped:
        print(f"mmqsa: {stopped}", file=sys.stderr)
        raise SystemExit(STOPPED) from None
    if as_json:
        print(json.dumps({"run": str(out), **done}))
        return
    print(
        f"{out}: loss {done['final_loss']}, {done['seconds']} s, "
        f"{done['images_per_second']} images/s on {done['device']}"
    )


TrainFeatures = Annotated[
    Path, typer.Option("--features", help="The training split's feature cache.")
]
Again = Annotated[
    bool, typer.Option("--overwrite", help="Remove the one that is there, and the metrics, first.")
]


@app.command()
def similarity(
    run: RunFolder,
    features: TrainFeatures,
    config: ConfigFile = None,
    overwrite: Again = False,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Learn the similarity of a run's slots, for the matching `learned`; the run stays as it is."""
    from mmqsa.config.evaluation import SimilarityStageConfig
    from mmqsa.paths import SIMILARITY

    learned = SimilarityStageConfig.load(config).matching.similarity
    _learn(learned, run, features, run / SIMILARITY, overwrite, device, require_gpu)


@app.command()
def fusion(
    run: RunFolder,
    features: TrainFeatures,
    config: ConfigFile = None,
    overwrite: Again = False,
    device: Device = "auto",
    require_gpu: RequireGpu = False,
) -> None:
    """Learn to merge a run's matched slots, for the matching `fusion`; the run stays as it is."""
    from mmqsa.config.evaluation import FusionStageConfig
    from mmqsa.paths import FUSION

    learned = FusionStageConfig.load(config).matching.fusion
    _learn(learned, run, features, run / FUSION, overwrite, device, require_gpu)


def _learn(
    learned: "SimilarityConfig | FusionConfig",
    run: Path,
    features: Path,
    file: Path,
    overwrite: bool,
    device: str,
    require_gpu: bool,
) -> None:
    from mmqsa.device import choose_device
    from mmqsa.features.cache import FeatureCache
    from mmqsa.training.learned_merging import train_merging
    from mmqsa.training.run import Run

    trained, cache, used = Run.load(run), FeatureCache(features), choose_device(device, require_gpu)
    first, last = train_merging(trained, cache, learned, run, used, overwrite)
    print(f"{file}: loss {first:.4f} at first, {last:.4f} at last")
