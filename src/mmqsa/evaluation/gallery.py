"""The qualitative grid: photographs, ground truth, what was hidden, masks and boxes.

It needs a run, its features and the photographs, so it lives with the evaluation and not with the
figures that are drawn from metrics alone.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from mmqsa.data.geometry import VOID, Geometry
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import GroundTruth, boxes, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.store import FeatureCache
from mmqsa.model.inference import Discoverer
from mmqsa.model.masking import visible_patches
from mmqsa.reporting.figures import PAGE, save, style
from mmqsa.training.run import Run

SCORE = "paper/mbo_c"


def chosen_images(per_image: Path, number: int) -> list[str]:
    """Image ids at even quantiles of mBO^c, best first: not hand-picked."""
    table = pd.read_csv(per_image)
    first = table[
        (table["matching"] == table["matching"].iloc[0])
        & (table["mask_source"] == "attention")
        & (table["eval_seed"] == table["eval_seed"].iloc[0])
    ]
    if first.empty or SCORE not in first:
        raise InputError(f"{per_image}: has no {SCORE} of attention masks to choose images by")
    ranked = first.dropna(subset=SCORE).sort_values([SCORE, "image_id"], ascending=[False, True])
    positions = np.linspace(0, len(ranked) - 1, min(number, len(ranked))).round().astype(int)
    return list(ranked["image_id"].iloc[positions])


@torch.inference_mode()
def gallery(
    run: Run, cache: FeatureCache, voc: VocFolder, per_image: Path, out: Path, number: int = 6
) -> list[Path]:
    """Draw ``number`` images of the cache to ``out`` (.pdf and .png); returns the paths."""
    chosen = chosen_images(per_image, number)
    rows = {image_id: row for row, image_id in enumerate(cache.ids)}
    indices = sorted(rows[image_id] for image_id in chosen)
    keys = torch.from_numpy(cache.keys[indices])
    generator = torch.Generator().manual_seed(0)
    discoverer = Discoverer(run.model)
    found = discoverer.run_heads(keys, generator)
    reference = torch.zeros(len(keys), dtype=torch.int64)
    masks = discoverer.discover(found, reference, "hungarian")
    maps = {
        "decoder alphas": label_maps(masks["decoder"], cache.side),
        "slot attention": label_maps(masks["attention"], cache.side),
        "one head": label_maps(found.attention[:, 0], cache.side),
    }
    masking = run.settings.masking
    scored = keys if masking.score == "raw" else run.model.standardised(keys)
    uniform = torch.rand(keys.shape[:2], generator=generator)
    visible = visible_patches(scored, masking.strategy, masking.ratio, uniform).numpy()
    geometry = Geometry(cache.attributes["geometry"], cache.side)
    drawn = {  # best of what is shown first: noise moves a score a little from the evaluation's
        image_id: image_metrics(
            maps["slot attention"][indices.index(rows[image_id])],
            GroundTruth(cache.classes[rows[image_id]], None),
        )["paper", "mbo_c"]
        for image_id in chosen
    }
    titles = ["photograph", "ground truth", "seen in training", *maps]
    with style():
        size = PAGE / len(titles)
        figure, axes = plt.subplots(
            len(chosen),
            len(titles),
            figsize=(PAGE, size * len(chosen) * 1.02),
            squeeze=False,
            gridspec_kw={"wspace": 0.03, "hspace": 0.03},
        )
        ordered = sorted(drawn.items(), key=lambda item: -item[1])
        for row, (image_id, score) in zip(axes, ordered, strict=True):
            position = indices.index(rows[image_id])
            image = geometry.image(voc.image(image_id))
            truth = cache.classes[rows[image_id]]
            row[0].imshow(image)
            row[0].set_ylabel(f"mBO$^c$ {100 * score:.0f}", fontsize=7)
            objects = [label for label in np.unique(truth) if label not in (0, VOID)]
            _overlay(row[1], image, np.where(truth == VOID, 0, truth), objects, background=0)
            row[2].imshow(_seen(image, visible[position], cache.grid))
            for axis, prediction in zip(row[3:], maps.values(), strict=True):
                best = _best_slots(prediction[position], truth)
                _overlay(axis, image, prediction[position], best)
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=7)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        return save(figure, out)


def _best_slots(prediction: np.ndarray, truth: np.ndarray) -> list[int]:
    """For every class in the image, the slot that overlaps it best."""
    truth = GroundTruth(truth, None)
    overlap = truth.overlaps(truth.classes, truth.counts(prediction))
    return sorted(set(overlap[truth.classes.first_object :].argmax(axis=1).tolist()))


def _overlay(
    axis: plt.Axes, image: np.ndarray, labels: np.ndarray, boxed: list[int], background: int = -1
) -> None:
    """Labels (S, S) in colour over the greyed image, with the tight boxes of those in ``boxed``."""
    palette = np.array(sns.color_palette("tab10", 10) + sns.color_palette("husl", 60))
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    coloured = 0.45 * grey + 0.55 * palette[labels]
    axis.imshow(np.where((labels == background)[..., None], grey, coloured))
    for label in boxed:
        x0, y0, x1, y1 = boxes((labels == label).astype(np.int32))[0]
        for width, colour in ((1.8, "white"), (0.8, "black")):  # to be seen on any ground
            axis.add_patch(
                plt.Rectangle(
                    (x0, y0),
                    x1 - x0 - 1,
                    y1 - y0 - 1,
                    fill=False,
                    linewidth=width,
                    edgecolor=colour,
                )
            )


def _seen(image: np.ndarray, visible: np.ndarray, grid: int) -> np.ndarray:
    """The image with the patches that training hides darkened: (S, S, 3) float."""
    shown = np.zeros(grid * grid, dtype=bool)
    shown[visible] = True
    patch = image.shape[0] // grid
    mask = shown.reshape(grid, grid).repeat(patch, axis=0).repeat(patch, axis=1)
    return image / 255 * np.where(mask, 1.0, 0.15)[..., None]
