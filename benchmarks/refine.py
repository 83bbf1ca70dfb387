"""Refined masks beside the masks they are made of, scored on labelled images as runs are.

    python benchmarks/refine.py --run results/voc-vits14/runs/full/seed0 \
        --features results/voc-vits14/features/voc-subset/val.h5 --data $MMQSA_VOC

--run and --features may be repeated, a pair for each backbone. With --choose, radii and epsilons of
the filter are compared instead. Give it features of images to train on: their labels choose, and
those of val do not.
"""

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from mmqsa.config.choices import MaskSource
from mmqsa.data.geometry import VOID
from mmqsa.data.voc import VocFolder
from mmqsa.device import describe
from mmqsa.discover.refine import PATCH_PIXELS, refined_slots
from mmqsa.discover.segmenter import find_objects
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.progress import progress_bar
from mmqsa.reporting.statistics import paired
from mmqsa.training.run import Run
from publish import publish

METRICS = {
    "mIoU": ("paper", "miou_with_background"),
    "mBO^c": ("paper", "mbo_c"),
    "CorLoc, one box": ("paper", "corloc_one_box"),
    "boundary F": None,
}
SOURCES: tuple[MaskSource, ...] = ("attention", "decoder")
RADII = [patches * PATCH_PIXELS for patches in (1, 2, 3, 4)]
EPSILONS = [1e-5, 1e-4, 1e-3]
TOLERANCE = 2.0  # px of the square
BAND = 4.0  # px: no pixel of VOC's void along boundaries is as far from a labelled one
SIZES = [(500, 375), (2309, 1732), (8165, 6124)]  # VOC, 4 megapixels, 50


def boundary_f(prediction: np.ndarray, classes: np.ndarray) -> float:
    """F, in 0..1, of the boundaries of a label map (S, S) with those of the classes, within 2 px.

    A pixel is on a boundary when the pixel to its right or below has another label. Precision is
    the share of predicted boundary pixels with a true one at most TOLERANCE away (Euclidean),
    recall the share of true ones with a predicted one: the contour accuracy of Perazzi et al.
    (DAVIS, 2016), on all boundaries of an image at once.

    VOC hides each boundary in a band of void, about 5 px of the photograph wide. A void pixel takes
    the label of the nearest labelled one, so that the true boundary is the middle of the band.
    Wider void regions are objects that nobody labelled: boundaries in them, or up to TOLERANCE from
    them, are not counted. NaN without a true boundary; 0 without a predicted one.
    """
    void = classes == VOID
    if void.all():
        return float("nan")
    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    true, predicted = _boundary(classes[tuple(nearest)]), _boundary(prediction)
    unlabelled = _distance_to(~void) > BAND
    counted = _distance_to(unlabelled) > BAND + TOLERANCE
    if not (true & counted).any():
        return float("nan")
    if not (predicted & counted).any():
        return 0.0
    precision = (_distance_to(true)[predicted & counted] <= TOLERANCE).mean()
    recall = (_distance_to(predicted)[true & counted] <= TOLERANCE).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def _boundary(labels: np.ndarray) -> np.ndarray:
    """The pixels (S, S) whose right or lower neighbour has another label."""
    boundary = np.zeros(labels.shape, dtype=bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    return boundary


def _distance_to(pixels: np.ndarray) -> np.ndarray:
    """From each pixel to the nearest of ``pixels``, px; infinite where there are none."""
    return distance_transform_edt(~pixels) if pixels.any() else np.full(pixels.shape, np.inf)


def scores(prediction: np.ndarray, truth: GroundTruth, classes: np.ndarray) -> dict[str, float]:
    """METRICS of a label map (S, S), in percent."""
    values = image_metrics(prediction, truth)
    return {
        name: 100 * (values[key] if key else boundary_f(prediction, classes))
        for name, key in METRICS.items()
    }


@torch.inference_mode()
def segmented(
    run: Run, cache: FeatureCache, data: Path, every: int
) -> Iterator[tuple[str, Image.Image, np.ndarray, dict[MaskSource, Tensor]]]:
    """Every labelled image: its id, its square, its classes (S, S), and masks (K, N) by source."""
    run.check_cache(cache)
    photographs = VocFolder.find(data)
    for index in progress_bar(range(0, len(cache.ids), every), desc="refine", unit=" images"):
        image_id, classes = cache.ids[index], cache.classes[index]
        if (classes == VOID).all():
            continue
        features = torch.from_numpy(cache.features[index : index + 1])
        noise, reference = image_draws(run.model, [image_id])
        masks = run.model.segment(features, noise, "hungarian", SOURCES, reference)
        square = Image.fromarray(cache.square(photographs.image(image_id)))
        yield image_id, square, classes, {source: masks[source][0] for source in SOURCES}


def effect(run: Run, cache: FeatureCache, data: Path, every: int) -> Iterator[dict]:
    """A row per mask source and metric: before, after, and their paired difference over images."""
    values: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for image_id, square, classes, masks in segmented(run, cache, data, every):
        truth = GroundTruth(classes, None, ["paper"])
        for source in SOURCES:
            before = label_maps(masks[source][None], cache.side)[0]
            after = refined_slots(masks[source], square)[0].numpy()
            for name, labels in (("before", before), ("after", after)):
                of_images = values.setdefault((source, name), {})
                of_images[image_id] = scores(labels, truth, classes)
    tables = {key: pd.DataFrame.from_dict(rows, orient="index") for key, rows in values.items()}
    for source, metric in product(SOURCES, METRICS):
        before, after = (tables[source, name][metric] for name in ("before", "after"))
        row = {"backbone": run.config.backbone.name, "mask source": source, "metric": metric}
        yield row | {"before": before.mean(), "after": after.mean()} | paired(before, after)


def choice(run: Run, cache: FeatureCache, data: Path, every: int) -> Iterator[dict]:
    """A row per radius (in patches) and epsilon: means over images, and their gain."""
    rows: dict[tuple[int, float], list[dict[str, float]]] = {}
    for _, square, classes, masks in segmented(run, cache, data, every):
        truth, attention = GroundTruth(classes, None, ["paper"]), masks["attention"]
        before = label_maps(attention[None], cache.side)[0]
        rows.setdefault((0, 0), []).append(scores(before, truth, classes))
        for pair in product(RADII, EPSILONS):
            after = refined_slots(attention, square, *pair)[0].numpy()
            rows.setdefault(pair, []).append(scores(after, truth, classes))
    for (radius, epsilon), values in rows.items():
        row = {"backbone": run.config.backbone.name, "radius, patches": radius / PATCH_PIXELS}
        means = pd.DataFrame(values).mean().to_dict()
        yield row | {"epsilon": epsilon, **means, "images": len(values)}


def seconds(sizes: list[tuple[int, int]]) -> Iterator[dict]:
    """A row per size of a photograph: seconds from masks (7 slots, 20 x 20 patches) to objects."""
    generator = torch.Generator().manual_seed(0)
    masks = (4 * torch.rand(7, 400, generator=generator)).softmax(dim=0)
    for width, height in sizes:
        coarse = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        photograph = Image.fromarray(coarse).resize((width, height))
        row: dict[str, str | float] = {"photograph, px": f"{width} x {height}"}
        for name, guide in (("before", None), ("after", photograph)):
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                find_objects(masks, width, height, guide=guide)
                times.append(time.perf_counter() - begun)
            row[f"{name}, s"] = min(times)
        yield row


def main(
    run: Annotated[list[Path], typer.Option(help="Folder of a trained run.")],
    features: Annotated[list[Path], typer.Option(help="Its feature cache of labelled images.")],
    data: Annotated[Path, typer.Option(help="The VOC folder that the cache was made of.")],
    choose: Annotated[bool, typer.Option("--choose", help="Compare radii and epsilons.")] = False,
    every: Annotated[int, typer.Option(help="2: every second image.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small photographs are timed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for csv and markdown.")] = None,
) -> None:
    """Print the tables; write them to --out."""
    machine = describe(torch.device("cpu"))
    rows = (
        row
        for folder, cache in zip(run, features, strict=True)
        for row in (choice if choose else effect)(
            Run.load(folder), FeatureCache(cache), data, every
        )
    )
    publish("refine-choice" if choose else "refine", rows, machine, out)
    if not choose:
        publish("refine-seconds", seconds([(60, 40)] if quick else SIZES), machine, out)


if __name__ == "__main__":
    typer.run(main)
