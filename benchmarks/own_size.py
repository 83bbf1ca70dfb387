"""CorLoc and seconds of methods on squashed photographs and on photographs at their own size.

    python benchmarks/own_size.py --data $MMQSA_VOC --weights $MMQSA_WEIGHTS --out tiny
    python benchmarks/own_size.py --data $MMQSA_VOC --weights $MMQSA_WEIGHTS_VITS14 --out small \
        --name vit_small_patch14_dinov2.lvd142m --side 280 --every 3

The photographs are those of the segmentation split val; features are standardised by those of the
same photographs, squashed, and fixed boxes are fitted to the boxes of train. Where a photograph has
no Annotations, the boxes are those of the classes of its label map: the box of all pixels of a
class, and so of all its objects. Such numbers stand beside one another, not beside published ones.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from xml.etree.ElementTree import Element, ElementTree, SubElement

import numpy as np
import pandas as pd
import torch
import typer
from threadpoolctl import threadpool_limits

from mmqsa.config.workflow import Config
from mmqsa.data.geometry import VOID
from mmqsa.data.voc import VocFolder
from mmqsa.device import describe
from mmqsa.evaluation.baselines import kmeans, lost, normalised_cut, score_baseline, tokencut
from mmqsa.evaluation.boxes import boxes
from mmqsa.evaluation.controls import score_controls
from mmqsa.evaluation.labelled_images import LabelledFolder
from mmqsa.features.cache import FeatureCache
from mmqsa.features.extract import extract

CPU = torch.device("cpu")
METHODS = ("lost", "tokencut", "kmeans", "normalised-cut")
VARIANTS = ("squash", "native")
TIMED = 40  # images, evenly from the whole


def annotated(data: Path, out: Path, every: int) -> VocFolder:
    """The data set with detection lists and boxes: its own, or those of its label maps.

    Of val, one photograph in ``every``.
    """
    voc, root = VocFolder.find(data), out / "voc" / "VOC2012"
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    if not (root / "JPEGImages").exists():
        (root / "JPEGImages").symlink_to((voc.path / "JPEGImages").resolve())
    for split in ("train", "val"):
        ids = voc.ids(split)[:: every if split == "val" else 1]
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for image_id in ids:
            found, size = voc.boxes(image_id), voc.size(image_id)
            if found is None:
                labels = voc.classes(image_id, size)
                found = boxes(np.where(labels == VOID, 0, labels))
            xml = Element("annotation")
            for corners in np.add(found, [1, 1, 0, 0]):  # VOC counts from 1, its ends inclusive
                box = SubElement(SubElement(xml, "object"), "bndbox")
                for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                    SubElement(box, tag).text = f"{value:g}"
            ElementTree(xml).write(root / "Annotations" / f"{image_id}.xml")
    return VocFolder.find(root)


def caches(config: Config, voc: VocFolder, out: Path) -> tuple[dict[str, FeatureCache], dict]:
    """The photographs in every variant, and processor seconds of the extraction of one."""
    found, seconds = {}, {}
    for variant in VARIANTS:
        dataset = config.dataset.model_copy(update={"geometry": variant})
        own, path = config.model_copy(update={"dataset": dataset}), out / f"{variant}.h5"
        start = time.process_time()
        done = extract(voc, "detection-val", own, path, CPU)
        seconds[variant] = (time.process_time() - start) / done if done else float("nan")
        found[variant] = FeatureCache(path)
    return found, seconds


def seconds_of(method: Callable, cache: FeatureCache) -> float:
    """Median processor seconds of a method on the raw features of an image, on one core."""
    taken = []
    with threadpool_limits(1):
        for index in range(0, len(cache.ids), max(1, len(cache.ids) // TIMED)):
            features = cache.of_image(index).astype(np.float32)
            start = time.process_time()
            method(features, cache.grid_of(index))
            taken.append(time.process_time() - start)
    return float(np.median(taken))


def main(
    data: Annotated[Path, typer.Option(help="A folder in VOC layout.")],
    weights: Annotated[Path, typer.Option(help="Of the backbone.")],
    out: Annotated[Path, typer.Option(help="A folder for caches and scores.")],
    name: str = "vit_tiny_patch16_224",
    side: Annotated[int, typer.Option(help="Of the squashed photographs, px.")] = 320,
    every: Annotated[int, typer.Option(help="One photograph of val in so many.")] = 1,
) -> None:
    """Print both tables in Markdown."""
    backbone = {"name": name, "weights": str(weights), "image_size": side}
    evaluation = {"seeds": [0], "kmeans_clusters": [2, 5], "cut_segments": [2]}
    config = Config.model_validate({"backbone": backbone, "evaluation": evaluation})
    voc = annotated(data, out, every)
    found, extraction = caches(config, voc, out)
    train = LabelledFolder(voc, "detection-train", config.dataset.name, "squash", side)
    rows: dict[tuple[str, str], pd.Series] = {}
    for variant in VARIANTS:
        scores = [
            score_baseline(method, found[variant], found["squash"], config, out)
            for method in METHODS
        ]
        scores.append(score_controls(found[variant], out, train))
        table = pd.concat(map(pd.read_csv, scores))
        for metric, of in (("corloc_one_box", "> 0.5"), ("corloc_one_box_or_equal", "≥ 0.5")):
            chosen = table[(table["protocol"] == "boxes") & (table["metric"] == metric)]
            rows[variant, of] = chosen.groupby("name", sort=False)["value"].mean()
    print(f"{len(found['native'].ids)} photographs, {name}, {describe(CPU)}\n")
    print(pd.DataFrame(rows).round(1).to_markdown(), "\n")
    timed = {
        "LOST": lost,
        "TokenCut": tokencut,
        "k-means, K = 5": lambda features, _: kmeans(features, 5),
        "normalised cut, K = 2": lambda features, _: normalised_cut(features, 2),
    }
    cost = {
        variant: {"patches": float(np.median(found[variant].grids.prod(axis=1)))}
        | {f"{label}, ms": 1000 * seconds_of(one, found[variant]) for label, one in timed.items()}
        | {"extraction, ms": 1000 * extraction[variant]}
        for variant in VARIANTS
    }
    print(pd.DataFrame(cost).round(1).to_markdown())


if __name__ == "__main__":
    typer.run(main)
