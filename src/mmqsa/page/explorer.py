"""The explorer's data: masks, labels and metrics of every image, as scripts that a browser loads.

A page that is opened from a disk may load scripts and images, and nothing else. So each file of
data is a script that hands over one value, and label maps are PNGs in it, as text: grey levels are
labels. They come in chunks of CHUNK images, so that a page of 1,449 images has few files.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from mmqsa.config.tables import METRICS, PRINTED_PROTOCOLS, unpack
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.label_map_file import PREDICTION, LabelMaps
from mmqsa.features.cache import FeatureCache
from mmqsa.page.spec import CONTROLS, PageSpec
from mmqsa.paths import Paths, label_maps_path
from mmqsa.progress import progress_bar
from mmqsa.reporting.metrics_file import REFERENCE, RUN, read_table
from mmqsa.reporting.results import SOURCES

Scores = dict[str, dict[str, list[float | None]]]
CHUNK = 32
QUALITY = 80  # of photographs
KINDS = {"kmeans": "k-means", "normalised-cut": "normalised cut", "lost": "LOST"}
KINDS |= {"tokencut": "TokenCut", "probe": "linear probe (supervised)"}
KINDS |= {"oracle": "ground truth at patch resolution", CONTROLS: "controls that look at no image"}


@dataclass
class Predictor:
    """A setting, a baseline, the controls or a method of other code: the files of each seed."""

    name: str
    label: str
    kind: str
    maps: dict[int, Path]
    scores: dict[int, Path]
    source: str = ""
    colour: str = ""


def predictors(spec: PageSpec, paths: Paths) -> list[Predictor]:
    """All whose masks the page shows, settings first."""
    found = []
    for name, seeds in spec.settings.items():
        metrics = {seed: paths.metrics(name, seed, spec.image_set) for seed in seeds}
        scores = {seed: paths.metrics(name, seed, spec.image_set, "per_image") for seed in seeds}
        maps = {seed: label_maps_path(path) for seed, path in metrics.items()}
        found.append(Predictor(name, spec.labels.get(name, name), "setting", maps, scores))
    for name in spec.references:
        maps = {0: label_maps_path(paths.reference(spec.image_set, name))}
        scores = {0: paths.reference(spec.image_set, name, "per_image")}
        kind = "control" if name == CONTROLS else "method"
        found.append(Predictor(name, KINDS.get(name, name), kind, maps, scores))
    for record in spec.methods(paths):
        maps = {0: label_maps_path(paths.method(spec.image_set, record.name))}
        scores = {0: paths.method(spec.image_set, record.name, "per_image")}
        label = record.title + " (supervised)" * (record.kind == "supervised")
        about = record.source or "", record.colour or ""
        found.append(Predictor(record.name, label, "other", maps, scores, *about))
    return found


def write_explorer(
    spec: PageSpec, paths: Paths, cache: FeatureCache, folder: PhotoFolder, out: Path
) -> None:
    """Write ``data/`` and, if they are shown, ``photographs/`` to the folder ``out``.

    Raises InputError where label maps or scores are missing, or of other images than the cache's.
    """
    if cache.name != spec.image_set:
        raise InputError(
            f"--features {cache.path}: images of {cache.name}, but the page is of {spec.image_set}"
        )
    shown = [(one, _of_seeds(one, cache)) for one in predictors(spec, paths)]
    if not shown:
        raise InputError("the page shows no setting and no method; name some in page.settings")
    methods, metrics = [], set()
    for number, (predictor, by_seed) in enumerate(shown):
        place = f"data/{number}"
        for seed, (maps, scores) in by_seed.items():
            _write_predictions(maps, scores, out / place / str(seed))
            metrics |= {metric for of_view in scores.values() for metric in of_view}
        maps, scores = next(iter(by_seed.values()))
        methods.append(
            {
                **{"id": predictor.name, "label": predictor.label, "kind": predictor.kind},
                **{"seeds": [*by_seed], "folder": place, "heads": len(maps.heads)},
                **{"source": predictor.source, "colour": predictor.colour},
                "views": [_view(spec, predictor, name) for name in scores],
                "visible": maps.visible is not None,
            }
        )
    if spec.photographs:
        _write_photographs(cache, folder, out / "photographs")
    _write_truth(cache, out / "data/truth")
    catalogue = {
        "side": cache.side,
        "grid": cache.grid,
        "chunk": CHUNK,
        "photographs": spec.photographs,
        "classes": dict(enumerate(folder.class_names, 1)),
        "images": [_facts(cache, index, image_id) for index, image_id in enumerate(cache.ids)],
        "metrics": [
            {"id": name, "label": _plain(label)}
            for name, label in METRICS.items()
            if name in metrics
        ],
        "methods": methods,
        "showcase": spec.showcase,
    }
    _write_script(out / "data/catalogue.js", catalogue)


def _of_seeds(predictor: Predictor, cache: FeatureCache) -> dict[int, tuple[LabelMaps, Scores]]:
    """Label maps and scores of each seed, the predictions that are in both. Raises InputError."""
    found: dict[int, tuple[LabelMaps, Scores]] = {}
    expected = (cache.side, cache.side)
    for seed, path in predictor.maps.items():
        maps, scores = LabelMaps(path), _scores(predictor, seed, cache)
        if maps.ids != cache.ids:
            raise InputError(f"{path}: of other images than {cache.path}; make it again")
        for name, array in maps.arrays.items():
            if array.shape[1:] != expected:
                raise InputError(
                    f"{path}: {name} is {array.shape[1:]}, not {expected} px; make it again"
                )
        if maps.visible is not None and maps.visible.shape[1] != cache.grid**2:
            raise InputError(
                f"{path}: visible is of {maps.visible.shape[1]} patches; make it again"
            )
        scores = {name: values for name, values in scores.items() if name in maps.arrays}
        if not scores:
            raise InputError(f"{path}: has nothing that is scored; make it again")
        first = next(iter(found.values()), (maps, scores))
        if [*first[1]] != [*scores] or first[0].heads != maps.heads:
            raise InputError(f"{path}: has other predictions than another seed's; make it again")
        found[seed] = (maps, scores)
    return found


def _write_predictions(maps: LabelMaps, scores: Scores, out: Path) -> None:
    """The metrics of all predictions, the label maps of each, and what is of every head."""
    _write_script(out / "metrics.js", list(scores.values()))
    for number, name in enumerate(scores):
        _write_chunks(out / str(number), maps.ids, partial(_png_of, maps.arrays[name]))
    _write_chunks(out / "heads", maps.ids, lambda index: _of_heads(maps, index))


def _plain(label: str) -> str:
    """A metric's name where no markup can be: ``mBO^c`` with a character that is raised."""
    return label.replace("^c", "ᶜ").replace("^i", "ⁱ")


def _view(spec: PageSpec, predictor: Predictor, name: str) -> dict[str, str]:
    """A prediction as the page calls it: of a run by matching and mask source."""
    if predictor.kind != "setting":
        return {"id": name, "label": predictor.label if predictor.kind == "other" else name}
    matching, _, source = name.partition("/")
    label = spec.labels.get(matching, matching)
    return {"id": name, "matching": matching, "source": source} | {
        "label": f"{label}, {SOURCES[source]}",
        "matchingLabel": label,
        "sourceLabel": SOURCES[source],
    }


def _scores(predictor: Predictor, seed: int, cache: FeatureCache) -> Scores:
    """Prediction -> metric -> its value of every image in percent, None where it has none."""
    path, of_run = predictor.scores[seed], predictor.kind == "setting"
    if not path.exists():
        commands = {"setting": "evaluate", "control": "controls", "other": "score"}
        command = commands.get(predictor.kind, "baseline")
        raise InputError(f"{path}: missing; run `mmqsa {command}`")
    table = read_table(path, "per_image", RUN if of_run else REFERENCE)
    if set(table["image_id"]) != set(cache.ids):
        raise InputError(f"{path}: of other images than {cache.path}; score them again")
    table = table[table["eval_seed"] == table["eval_seed"].iloc[0]]
    names = table["matching"] + "/" + table["mask_source"] if of_run else table["name"]
    table = table.assign(view=PREDICTION if predictor.kind == "other" else names)
    protocols = list(
        dict.fromkeys(one for several in PRINTED_PROTOCOLS.values() for one in several)
    )
    columns: dict[str, str] = {}  # metric -> its column, of the first protocol that has it
    for column, (protocol, metric) in unpack(table).items():
        if protocol in protocols:
            columns.setdefault(metric, column)
    scores: Scores = {}
    for view, rows in table.groupby("view", sort=False):
        rows = rows.set_index("image_id").reindex(cache.ids)
        scores[str(view)] = {
            metric: [None if pd.isna(value) else round(100 * value, 1) for value in rows[column]]
            for metric, column in columns.items()
            if rows[column].notna().any()
        }
    return scores


def _facts(cache: FeatureCache, index: int, image_id: str) -> dict[str, Any]:
    """An image's id, and of each object its class, its share of the image and its label.

    An object is an instance where they are labelled, else all pixels of a class.
    """
    if cache.classes is None:
        return {"id": image_id, "objects": []}
    classes = cache.classes[index]
    labels = classes if cache.instances is None else cache.instances[index]
    valid, objects = (labels != VOID) & (classes != VOID), []
    for label in np.unique(labels[valid & (labels > 0)]):
        inside = valid & (labels == label)
        share = round(float(inside.sum() / valid.sum()), 4)
        objects.append([int(np.bincount(classes[inside]).argmax()), share, int(label)])
    return {"id": image_id, "objects": objects}


def _write_photographs(cache: FeatureCache, folder: PhotoFolder, out: Path) -> None:
    """Each image's square, ``{index}.webp``."""
    out.mkdir(parents=True)
    for index, image_id in enumerate(progress_bar(cache.ids, desc="photographs", unit=" images")):
        square = Image.fromarray(cache.square(folder.image(image_id)))
        square.save(out / f"{index}.webp", quality=QUALITY)


def _write_truth(cache: FeatureCache, out: Path) -> None:
    """Of each image the PNGs of its classes and instances, and its annotated boxes."""

    def truth(index: int) -> dict[str, Any]:
        kinds = {"classes": cache.classes, "instances": cache.instances}
        value: dict[str, Any] = {
            kind: _png(labels[index]) for kind, labels in kinds.items() if labels is not None
        }
        if cache.boxes is not None and cache.attributes["geometry"] == "squash":
            value["boxes"] = cache.boxes[index].round(1).tolist()
        return value

    _write_chunks(out, cache.ids, truth)


def _of_heads(maps: LabelMaps, index: int) -> dict[str, Any]:
    """An image's label map of each head, and the patches that masking leaves, as 0 and 1."""
    visible = maps.visible
    value: dict[str, Any] = {"heads": [_png(maps.arrays[name][index]) for name in maps.heads]}
    if visible is not None:
        value["visible"] = "".join(map(str, visible[index].astype(int)))
    return value


def _write_chunks(out: Path, ids: Sequence[str], value: Callable[[int], Any]) -> None:
    """Write ``{number}.js``: the values of CHUNK images each."""
    for number, start in enumerate(range(0, len(ids), CHUNK)):
        images: Iterable[int] = range(start, min(start + CHUNK, len(ids)))
        _write_script(out / f"{number}.js", [value(index) for index in images])


def _write_script(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    path.write_text(f"mmqsa.receive({text})\n", encoding="utf-8")


def _png_of(array: h5py.Dataset, index: int) -> str:
    return _png(array[index])


def _png(labels: np.ndarray) -> str:
    """A label map (S, S) as a PNG in base64, whose grey level is the label."""
    image, stream = Image.fromarray(labels, "P"), BytesIO()
    image.putpalette([grey for grey in range(int(labels.max()) + 1) for _ in range(3)])
    image.save(stream, "PNG", optimize=False)
    return b64encode(stream.getvalue()).decode()
