"""The command that scores predictions of other code."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmqsa.cli.application import ConfigFile, Json, app
from mmqsa.config.choices import Frame, GeometryName

if TYPE_CHECKING:
    from mmqsa.evaluation.labelled_images import LabelledImages


@app.command()
def score(
    predictions: Annotated[
        list[Path],
        typer.Option(
            help="Folder of IMAGE_ID.png label maps, FILE.h5, or FILE.json in COCO's format. "
            "Again: another seed of the same method."
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the method, in file names: spot.")],
    results: Annotated[Path, typer.Option(help="Results folder to write to.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the labels, in VOC or COCO layout.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of --data: train, val, … or detection-trainval. Default: val."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="In place of --data: a feature cache, for its labels.")
    ] = None,
    config: ConfigFile = None,
    geometry: Annotated[
        GeometryName | None,
        typer.Option(help="Of --data; native: photographs as they are. Default: the config's."),
    ] = None,
    frame: Annotated[
        Frame,
        typer.Option(
            help="What a label map covers: the whole photograph; its central square; or the whole "
            "photograph, squashed."
        ),
    ] = "photograph",
    array: Annotated[
        str | None, typer.Option(help="The one to score of an HDF5 file that holds several.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="For COCO's json: one whose `images` name the photograph of each id."),
    ] = None,
    least_score: Annotated[
        float | None, typer.Option(help="For COCO's json: leave out objects of a lower score.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="To fit the fixed boxes of the controls on: a split of --data, or a cache. "
            "Without it there are none."
        ),
    ] = None,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Do not score the controls.")
    ] = False,
    title: Annotated[
        str | None, typer.Option(help="In tables and figures; default: the name.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="A citation or an address.")] = None,
    colour: Annotated[str | None, typer.Option(help="In figures: #aa3377.")] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="The method has seen labels of these classes.")
    ] = False,
    protocol: Annotated[
        list[str] | None, typer.Option(help="Print this one only; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the predictions of other code, beside controls, and record them as a method's."""
    from mmqsa.config.evaluation import ControlsConfig
    from mmqsa.config.tables import GEOMETRY_PROTOCOLS
    from mmqsa.errors import InputError
    from mmqsa.evaluation.prediction_files import OfCoco, open_predictions
    from mmqsa.evaluation.score import method_record, score_predictions
    from mmqsa.paths import Paths

    paths = Paths(results)
    labels, fitted = _labels(data, split, features, config, geometry, train)
    record = method_record(
        paths,
        name,
        title=title,
        source=source,
        colour=colour,
        kind="supervised" if supervised else None,
        image_size=None if labels.attributes["geometry"] == "native" else labels.side,
    )
    protocols = GEOMETRY_PROTOCOLS[labels.attributes["geometry"]]
    for one in protocol or []:
        if one not in protocols:
            raise InputError(f"--protocol {one}: expected one of {', '.join(protocols)}")
    asked = images is not None or least_score is not None
    of_coco = OfCoco(images, least_score) if asked else None
    opened = [open_predictions(path, labels.ids, array, of_coco) for path in predictions]
    controls = None if no_controls else ControlsConfig.load(config)
    found = score_predictions(
        labels, opened, record, paths, frame, controls, fitted, protocol or ()
    )
    found = found.of(protocol or protocols)
    if as_json:
        print(json.dumps(found.data()))
        return
    print(found.text())
    print(f"{found.num_images} images, up to {found.num_slots} slots in each")
    print(
        f"{', '.join(map(str, found.files))}: written; `mmqsa leaderboard --results {results} "
        f"--image-set {found.image_set}` sets methods side by side"
    )


def _labels(
    data: Path | None,
    split: str | None,
    features: Path | None,
    config: Path | None,
    geometry: GeometryName | None,
    train: str | None,
) -> tuple["LabelledImages", "LabelledImages | None"]:
    """The labels to score on, and those to fit controls to."""
    from mmqsa.config.data import ExtractionConfig
    from mmqsa.data.layouts import LAYOUTS, open_folder
    from mmqsa.errors import InputError
    from mmqsa.evaluation.labelled_images import LabelledFolder
    from mmqsa.features.cache import FeatureCache

    if (data is None) == (features is None):
        raise InputError("--data, --features: give one of the two")
    if features is not None:
        for option, given in {"--geometry": geometry, "--split": split}.items():
            if given is not None:
                raise InputError(f"{option}: a cache has its own; leave it out, or give --data")
        return FeatureCache(features), FeatureCache(train) if train else None
    known = ExtractionConfig.load(config)
    dataset, folder = known.dataset, open_folder(data or "")
    if not isinstance(folder, LAYOUTS[dataset.kind]):
        raise InputError(
            f"{data}: is no data set of dataset.kind {dataset.kind} ({config or 'the default'}); "
            "name its own with --config, such as config/coco.yaml"
        )
    used, side = geometry or dataset.geometry, known.backbone.image_size
    labels = LabelledFolder(folder, split or "val", dataset.name, used, side)
    if train is None:
        return labels, None
    square = "squash" if used == "native" else used
    return labels, LabelledFolder(folder, train, dataset.name, square, side)
