"""Contents of the qualitative figures: images by rank, and a run's label maps of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch

from mmqsa.config.choices import MaskSource
from mmqsa.config.files import quoted
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import boxes
from mmqsa.evaluation.draws import image_draws
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.model.matching import align, reorder
from mmqsa.reporting.metrics_file import RUN, read_table
from mmqsa.training.run import Run

SCORE = "paper/mbo_c"


def ranked_images(per_image: Path, num_images: int) -> list[str]:
    """Image ids at even quantiles of mBO^c, best first; of an odd number the middle is the median.

    Raises InputError when the table has no mBO^c of attention masks.
    """
    table = read_table(per_image, "per_image", RUN)
    first = table[
        (table["matching"] == table["matching"].iloc[0])
        & (table["mask_source"] == "attention")
        & (table["eval_seed"] == table["eval_seed"].iloc[0])
    ]
    if SCORE not in first or first[SCORE].isna().all():
        raise InputError(f"{per_image}: has no {SCORE} of attention masks to choose images by")
    ranked = first.dropna(subset=SCORE).sort_values([SCORE, "image_id"], ascending=[False, True])
    positions = np.linspace(0, len(ranked) - 1, min(num_images, len(ranked))).round().astype(int)
    return list(ranked["image_id"].iloc[positions])


@dataclass
class Picture:
    """One image of a cache and a run's label maps of it, (S, S) uint8."""

    image_id: str
    image: np.ndarray
    """(S, S, 3) uint8"""
    truth: np.ndarray
    """classes"""
    visible: np.ndarray
    """(V,) indices of the patches that training does not hide"""
    merged: dict[MaskSource, np.ndarray]
    """of the merged heads, by mask source"""
    heads: list[np.ndarray]
    """of each head's attention, slots in the first head's order"""

    @cached_property
    def score(self) -> float:
        """mBO^c of the merged attention."""
        truth = GroundTruth(self.truth, None)
        return image_metrics(self.merged["attention"], truth)["paper", "mbo_c"]


@torch.inference_mode()
def pictures(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, image_ids: list[str]
) -> list[Picture]:
    """These images of a cache, best first, with the masks of the evaluation seed 0.

    Raises InputError where the cache is another network's or split's, or has no labels.
    """
    run.check_cache(cache)
    if cache.classes is None:
        raise InputError(f"{cache.path}: has no class label maps to draw; name another cache")
    rows = {image_id: row for row, image_id in enumerate(cache.ids)}
    if others := [image_id for image_id in image_ids if image_id not in rows]:
        raise InputError(
            f"{cache.path}: has no image {quoted(others[0])}, which --per-image names; give the "
            "scores of this split"
        )
    ids = sorted(image_ids, key=rows.__getitem__)
    features = torch.from_numpy(cache.features[[rows[image_id] for image_id in ids]])
    model = run.model
    noise, reference = image_draws(model, ids)
    heads = model.run_heads(features, noise)
    merged = {
        source: label_maps(masks, cache.side)
        for source, masks in model.merge_heads(heads, reference=reference).items()
    }
    matched = reorder(heads.attention, align(heads.slots, reference, "hungarian"))
    by_head = [label_maps(masks, cache.side) for masks in matched.unbind(1)]
    uniform = torch.rand(features.shape[:2], generator=torch.Generator().manual_seed(0))
    visible = model.visible_patches(features, model.standardised(features), uniform).numpy()
    drawn = [
        Picture(
            image_id,
            cache.square(photographs.image(image_id)),
            cache.classes[rows[image_id]],
            visible[index],
            {source: maps[index] for source, maps in merged.items()},
            [maps[index] for maps in by_head],
        )
        for index, image_id in enumerate(ids)
    ]
    return sorted(drawn, key=lambda picture: -picture.score)


@torch.inference_mode()
def attention_over_iterations(
    run: Run, cache: FeatureCache, image_id: str, iterations: int
) -> np.ndarray:
    """The first head's attention in one image after 1, 2, … iterations: (iterations, K, N)."""
    index = cache.ids.index(image_id)
    features = torch.from_numpy(cache.features[index : index + 1])
    noise, _ = image_draws(run.model, [image_id])
    steps = range(1, iterations + 1)
    heads = [run.model.run_heads(features, noise, iterations=number) for number in steps]
    return torch.cat([outputs.attention[:, 0] for outputs in heads]).numpy()


def object_labels(truth: np.ndarray) -> list[int]:
    """The labels of a map (S, S) that are neither background nor void."""
    return [label for label in np.unique(truth) if label not in (0, VOID)]


def best_slots(prediction: np.ndarray, truth: np.ndarray) -> list[int]:
    """The slots that overlap the image's classes best, one for each class."""
    ground_truth = GroundTruth(truth, None)
    labels = ground_truth.classes
    assert labels is not None
    overlap = ground_truth.overlaps(labels, ground_truth.counts(prediction))
    return sorted(set(overlap[labels.first_object :].argmax(axis=1).tolist()))


def overlay(
    axis: plt.Axes, image: np.ndarray, labels: np.ndarray, boxed: list[int], background: int = -1
) -> None:
    """Draw labels (S, S) over the greyed image, with tight boxes of those in ``boxed``."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    coloured = 0.45 * grey + 0.55 * PALETTE[labels]
    axis.imshow(np.where((labels == background)[..., None], grey, coloured))
    for label in boxed:
        draw_box(axis, labels == label, "black")


PALETTE = np.array(sns.color_palette("tab10", 10) + sns.color_palette("husl", 60))


def draw_box(axis: plt.Axes, mask: np.ndarray, colour: str, dashes: str = "-") -> None:
    """Draw the tight box of a mask (S, S) bool, with a white rim to stand out from any image."""
    x0, y0, x1, y1 = boxes(mask.astype(np.int32))[0]
    for width, shade in ((1.8, "white"), (0.9, colour)):
        axis.add_patch(
            plt.Rectangle(
                (x0, y0),
                x1 - x0 - 1,
                y1 - y0 - 1,
                fill=False,
                linewidth=width,
                edgecolor=shade,
                linestyle="-" if shade == "white" else dashes,
            )
        )


def darkened(image: np.ndarray, visible: np.ndarray, grid: int) -> np.ndarray:
    """The image with the patches that training hides darkened: (S, S, 3) float."""
    is_visible = np.zeros(grid * grid, dtype=bool)
    is_visible[visible] = True
    patch = image.shape[0] // grid
    mask = is_visible.reshape(grid, grid).repeat(patch, axis=0).repeat(patch, axis=1)
    return image / 255 * np.where(mask, 1.0, 0.15)[..., None]
