"""The premise, drawn: histograms of each score, and images with its ranks as heat maps."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.premise import Premise
from mmqsa.features.cache import FeatureCache
from mmqsa.reporting.premise import OUTERMOST, SCORE_TITLES, draw_histogram
from mmqsa.reporting.style import PAGE, bare, save, style


def draw_premise(
    premise: Premise, cache: FeatureCache, photographs: PhotoFolder, out: Path, num_images: int = 5
) -> list[Path]:
    """Draw what each score takes for background: histograms, and images at even quantiles.

    The quantiles are of the area under the ROC curve of the paper's score, best first. Heat maps
    show the rank of a patch in its image. Raises InputError where no image has such an area.
    """
    areas = {score: premise.areas(score) for score in premise.scores}
    histogram, paper = premise.histogram(), areas["mean"]
    ranked = np.argsort(-paper, kind="stable")[: np.isfinite(paper).sum()]
    if not len(ranked):
        raise InputError(f"{cache.path}: no image has background and object patches to draw")
    places = np.linspace(0, len(ranked) - 1, min(num_images, len(ranked))).round().astype(int)
    assert cache.classes is not None
    with style():
        rows, columns = 1 + len(areas), 1 + len(places)
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(PAGE, PAGE / (columns + 1) * rows * 1.15),
            width_ratios=[1.5, *[1] * len(places)],
            layout="constrained",
        )
        for column, image in enumerate(ranked[places], 1):
            axes[0][column].imshow(cache.square(photographs.image(cache.ids[image])))
            for row, score in enumerate(areas, 1):
                ranks = premise.scores[score][image].argsort().argsort()
                heat = ranks.reshape(cache.grid, cache.grid) / max(len(ranks) - 1, 1)
                extent = (0, cache.side, cache.side, 0)
                shown = axes[row][column].imshow(heat, cmap="cividis", extent=extent)
                axes[row][column].set_title(f"AUC {areas[score][image]:.2f}", fontsize=7, pad=2)
            truth = np.isin(cache.classes[image], (0, VOID), invert=True)
            for axis in axes[:, column]:
                axis.contour(truth, [0.5], colors="white", linewidths=0.8)
        for row, score in enumerate(areas, 1):
            draw_histogram(axes[row][0], histogram[histogram["score"] == score])
            axes[row][0].set_title(SCORE_TITLES[score], fontsize=7, pad=2)
            axes[row][0].tick_params(labelbottom=row == len(areas))
        axes[-1][0].set_xlabel("score, in standard deviations", fontsize=7)
        axes[0][0].set_axis_off()
        entries = axes[1][0].get_legend_handles_labels()
        axes[0][0].legend(*entries, title=OUTERMOST, frameon=False, loc="center", title_fontsize=6)
        axes[0][1].set_ylabel("photograph", fontsize=7)
        bare(axes[:, 1:])
        label = "rank in the image (1: hidden first)"
        figure.colorbar(shown, ax=axes[1:, -1], label=label, shrink=0.8)
        return save(figure, out)
