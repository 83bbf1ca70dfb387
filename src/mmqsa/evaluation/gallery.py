"""The qualitative figures: many images in short, a few with every head, one over iterations.

They need a run, its features and the photographs, so they live with the evaluation and not with the
figures that are drawn from metrics alone. Images are chosen by rank, never by hand.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.evaluation.pictures import (
    Picture,
    attention_over_iterations,
    best_slots,
    chosen_images,
    draw_box,
    objects_of,
    overlay,
    pictures,
    seen,
)
from mmqsa.features.cache import FeatureCache
from mmqsa.reporting.style import PAGE, save, style
from mmqsa.training.run import Run

RANKS = ("best", "median", "worst")
NEAR = {"wspace": 0.03, "hspace": 0.03}


def gallery(
    run: Run,
    cache: FeatureCache,
    photographs: PhotoFolder,
    per_image: Path,
    out: Path,
    number: int = 6,
) -> list[Path]:
    """``number`` images at even quantiles of mBO^c, best first, to ``out`` (.pdf and .png)."""
    drawn = pictures(run, cache, photographs, chosen_images(per_image, number))
    titles = ["photograph", "ground truth", "seen in training"]
    titles += ["decoder alphas", "slot attention", "one head"]
    with style():
        size = PAGE / len(titles)
        figure, axes = plt.subplots(
            len(drawn),
            len(titles),
            figsize=(PAGE, size * len(drawn) * 1.02),
            squeeze=False,
            gridspec_kw=NEAR,
        )
        for row, picture in zip(axes, drawn, strict=True):
            _photograph_and_truth(row, picture, cache.grid)
            row[0].set_ylabel(f"mBO$^c$ {100 * picture.score:.0f}", fontsize=7)
            maps = picture.merged["decoder"], picture.merged["attention"], picture.heads[0]
            for axis, prediction in zip(row[3:], maps, strict=True):
                overlay(axis, picture.image, prediction, best_slots(prediction, picture.truth))
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=7)
        _bare(axes)
        return save(figure, out)


def heads_gallery(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, per_image: Path, out: Path
) -> list[Path]:
    """Best, median and worst image by mBO^c: the stages above, every head's attention below.

    Matched slots have one colour in all heads. In the last panel the true boxes are black, those
    of the slots that overlap the objects best dashed red.
    """
    drawn = pictures(run, cache, photographs, chosen_images(per_image, len(RANKS)))
    titles = ["photograph", "ground truth", "seen in training"]
    titles += ["decoder alphas", "slot attention", "boxes"]
    heads = run.model.heads
    with style():
        sizes = [PAGE / len(titles), PAGE / max(heads, len(titles))]
        figure = plt.figure(figsize=(PAGE, 1.12 * sum(sizes) * len(drawn)))
        blocks = figure.add_gridspec(len(drawn), 1, hspace=0.06)
        for block, picture, rank in zip(blocks, drawn, RANKS, strict=False):
            rows = block.subgridspec(2, 1, height_ratios=sizes, hspace=0.12)
            above = _axes(figure, rows[0], len(titles))
            below = _axes(figure, rows[1], max(heads, len(titles)))
            _photograph_and_truth(above, picture, cache.grid)
            for axis, source in zip(above[3:], ("decoder", "attention"), strict=False):
                overlay(axis, picture.image, picture.merged[source], [])
            _true_and_found_boxes(above[5], picture)
            for index, (axis, prediction) in enumerate(zip(below, picture.heads, strict=False)):
                overlay(axis, picture.image, prediction, [])
                axis.set_title(f"head {index + 1}", fontsize=6, pad=2)
            for axis in below[heads:]:
                axis.set_visible(False)
            for axis, title in zip(above, titles, strict=True):
                axis.set_title(title, fontsize=7, pad=3)
            above[0].set_ylabel(f"{rank}: mBO$^c$ {100 * picture.score:.0f}", fontsize=7)
            _bare(np.array([*above, *below]))
        return save(figure, out)


def iterations_gallery(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, per_image: Path, out: Path
) -> list[Path]:
    """The median image by mBO^c: one head's attention, slot by slot, after every iteration."""
    middle = chosen_images(per_image, 3)[1:2] or chosen_images(per_image, 1)
    (picture,) = pictures(run, cache, photographs, middle)
    iterations = run.config.slots.iterations
    attention = attention_over_iterations(run, cache, picture.image_id, iterations)
    slots = attention.shape[1]
    with style():
        size = PAGE / (slots + 1)
        figure, axes = plt.subplots(
            iterations,
            slots + 1,
            figsize=(PAGE, size * iterations * 1.05),
            squeeze=False,
            gridspec_kw=NEAR,
        )
        for number, (row, own) in enumerate(zip(axes, attention, strict=True)):
            row[0].imshow(picture.image)
            row[0].set_ylabel(f"iteration {number + 1}", fontsize=7)
            for slot, axis in enumerate(row[1:]):
                heat = own[slot].reshape(cache.grid, cache.grid)
                axis.imshow(heat, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
                if number == 0:
                    axis.set_title(f"slot {slot + 1}", fontsize=7)
        axes[0][0].set_title("photograph", fontsize=7)
        _bare(axes)
        return save(figure, out)


def _photograph_and_truth(row: np.ndarray, picture: Picture, grid: int) -> None:
    """What all begin with: the photograph, its labels with their boxes, what training sees."""
    row[0].imshow(picture.image)
    truth = picture.truth
    labels = np.where(truth == VOID, 0, truth)
    overlay(row[1], picture.image, labels, objects_of(truth), background=0)
    row[2].imshow(seen(picture.image, picture.visible, grid))


def _true_and_found_boxes(axis: plt.Axes, picture: Picture) -> None:
    axis.imshow(picture.image)
    for label in objects_of(picture.truth):
        draw_box(axis, picture.truth == label, "black")
    found = picture.merged["attention"]
    for slot in best_slots(found, picture.truth):
        if (found == slot).any():
            draw_box(axis, found == slot, "red", "--")


def _axes(figure: plt.Figure, place, number: int) -> list[plt.Axes]:
    grid = place.subgridspec(1, number, wspace=0.03)
    return [figure.add_subplot(grid[0, index]) for index in range(number)]


def _bare(axes: np.ndarray) -> None:
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)


GALLERIES = {"gallery": gallery, "heads": heads_gallery, "iterations": iterations_gallery}
