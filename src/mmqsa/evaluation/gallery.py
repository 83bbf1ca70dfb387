"""Qualitative figures: many images in brief, a few with every head, one over iterations.

They need a run, its features and the photographs, so they belong to the evaluation and not to the
figures that are drawn from metrics alone. Images are chosen by rank, never by hand.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.gridspec import SubplotSpec

from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.evaluation.pictures import (
    Picture,
    attention_over_iterations,
    best_slots,
    darkened,
    draw_box,
    object_labels,
    overlay,
    pictures,
    ranked_images,
)
from mmqsa.features.cache import FeatureCache
from mmqsa.reporting.style import PAGE, bare, save, style
from mmqsa.training.run import Run

RANKS = ("best", "median", "worst")
TITLES = ["photograph", "ground truth", "seen in training", "decoder masks", "attention masks"]
NEAR = 0.03  # space between panels


def gallery(
    run: Run,
    cache: FeatureCache,
    photographs: PhotoFolder,
    per_image: Path,
    out: Path,
    num_images: int = 6,
) -> list[Path]:
    """Draw images at even quantiles of mBO^c, best first, to ``out`` (.pdf and .png)."""
    drawn = pictures(run, cache, photographs, ranked_images(per_image, num_images))
    titles = [*TITLES, "attention masks,\none head"]
    with style():
        figure, axes = _panels(len(drawn), len(titles), 1.02)
        for row, picture in zip(axes, drawn, strict=True):
            _photograph_and_truth(row, picture, cache.grid)
            row[0].set_ylabel(f"mBO$^c$ {100 * picture.score:.0f}", fontsize=7)
            maps = picture.merged["decoder"], picture.merged["attention"], picture.heads[0]
            for axis, prediction in zip(row[3:], maps, strict=True):
                overlay(axis, picture.image, prediction, best_slots(prediction, picture.truth))
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=7)
        bare(axes)
        return save(figure, out)


def heads_gallery(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, per_image: Path, out: Path
) -> list[Path]:
    """Draw the best, median and worst image by mBO^c: the stages, and every head's attention below.

    Matched slots have one colour in all heads. In the last panel the true boxes are black, those
    of the slots that overlap the objects best dashed red.
    """
    drawn = pictures(run, cache, photographs, ranked_images(per_image, len(RANKS)))
    titles = [*TITLES, "boxes"]
    num_heads = run.model.num_heads
    with style():
        sizes = [PAGE / len(titles), PAGE / max(num_heads, len(titles))]
        figure = plt.figure(figsize=(PAGE, 1.12 * sum(sizes) * len(drawn)))
        blocks = figure.add_gridspec(len(drawn), 1, hspace=0.06)
        for index, (picture, rank) in enumerate(zip(drawn, RANKS, strict=False)):
            rows = blocks[index].subgridspec(2, 1, height_ratios=sizes, hspace=0.12)
            above = _axes(figure, rows[0], len(titles))
            below = _axes(figure, rows[1], max(num_heads, len(titles)))
            _photograph_and_truth(above, picture, cache.grid)
            overlay(above[3], picture.image, picture.merged["decoder"], [])
            overlay(above[4], picture.image, picture.merged["attention"], [])
            _true_and_slot_boxes(above[5], picture)
            for head, (axis, prediction) in enumerate(zip(below, picture.heads, strict=False)):
                overlay(axis, picture.image, prediction, [])
                axis.set_title(f"head {head + 1}", fontsize=6, pad=2)
            for axis in below[num_heads:]:
                axis.set_visible(False)
            for axis, title in zip(above, titles, strict=True):
                axis.set_title(title, fontsize=7, pad=3)
            above[0].set_ylabel(f"{rank}: mBO$^c$ {100 * picture.score:.0f}", fontsize=7)
            bare(np.array([*above, *below]))
        return save(figure, out)


def iterations_gallery(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, per_image: Path, out: Path
) -> list[Path]:
    """Draw the median image by mBO^c: one head's attention, slot by slot, after every iteration."""
    middle = ranked_images(per_image, 3)[1:2] or ranked_images(per_image, 1)
    (picture,) = pictures(run, cache, photographs, middle)
    iterations = run.config.slots.iterations
    attention = attention_over_iterations(run, cache, picture.image_id, iterations)
    with style():
        figure, axes = _panels(iterations, 1 + attention.shape[1], 1.05)
        for index, (row, masks) in enumerate(zip(axes, attention, strict=True)):
            row[0].imshow(picture.image)
            row[0].set_ylabel(f"iteration {index + 1}", fontsize=7)
            for slot, axis in enumerate(row[1:]):
                heat = masks[slot].reshape(cache.grid, cache.grid)
                shown = axis.imshow(heat, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
                if index == 0:
                    axis.set_title(f"slot {slot + 1}", fontsize=7)
        axes[0][0].set_title("photograph", fontsize=7)
        bare(axes)
        bar = figure.colorbar(
            shown, ax=axes, label="attention of the slot", fraction=0.02, pad=0.01
        )
        bar.outline.set_visible(False)
        return save(figure, out)


def _panels(rows: int, columns: int, stretch: float) -> tuple[plt.Figure, np.ndarray]:
    """Panels that fill a page's width, each ``stretch`` times as high as it is wide."""
    size = (PAGE, PAGE / columns * rows * stretch)
    near = {"wspace": NEAR, "hspace": NEAR}
    return plt.subplots(rows, columns, figsize=size, squeeze=False, gridspec_kw=near)


def _photograph_and_truth(
    row: Sequence[plt.Axes] | np.ndarray, picture: Picture, grid: int
) -> None:
    """The first three panels: the photograph, its labels with their boxes, what training sees."""
    row[0].imshow(picture.image)
    truth = picture.truth
    labels = np.where(truth == VOID, 0, truth)
    overlay(row[1], picture.image, labels, object_labels(truth), background=0)
    row[2].imshow(darkened(picture.image, picture.visible, grid))


def _true_and_slot_boxes(axis: plt.Axes, picture: Picture) -> None:
    axis.imshow(picture.image)
    for label in object_labels(picture.truth):
        draw_box(axis, picture.truth == label, "black")
    prediction = picture.merged["attention"]
    for slot in best_slots(prediction, picture.truth):
        if (prediction == slot).any():
            draw_box(axis, prediction == slot, "red", "--")


def _axes(figure: plt.Figure, place: SubplotSpec, columns: int) -> list[plt.Axes]:
    grid = place.subgridspec(1, columns, wspace=NEAR)
    return [figure.add_subplot(grid[0, index]) for index in range(columns)]


GALLERIES = {"gallery": gallery, "heads": heads_gallery, "iterations": iterations_gallery}
