"""What the qualitative figures show: chosen images, and all that a run finds in them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch

from mmqsa.config.evaluation import MaskSource
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.geometry import VOID, Geometry
from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import GroundTruth, boxes, image_metrics
from mmqsa.evaluation.scoring import label_maps
from mmqsa.features.cache import FeatureCache
from mmqsa.model.inference import Discoverer
from mmqsa.model.masking import visible_patches
from mmqsa.model.matching import align
from mmqsa.reporting.results import read_metrics
from mmqsa.training.run import Run

SCORE = "paper/mbo_c"


def chosen_images(per_image: Path, number: int) -> list[str]:
    """Image ids at even quantiles of mBO^c, best first: not hand-picked.

    An odd number has the median in the middle.
    """
    table = read_metrics(per_image)
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


@dataclass
class Picture:
    """One image of a cache, and what a run finds in it; label maps are (S, S) uint8."""

    image_id: str
    image: np.ndarray  # (S, S, 3) uint8
    truth: np.ndarray  # classes
    visible: np.ndarray  # patches that training does not hide
    merged: dict[MaskSource, np.ndarray]
    heads: list[np.ndarray]  # each head's attention, slots in the first head's order

    @cached_property
    def score(self) -> float:
        """mBO^c of the merged attention."""
        truth = GroundTruth(self.truth, None)
        return image_metrics(self.merged["attention"], truth)["paper", "mbo_c"]


@torch.inference_mode()
def pictures(
    run: Run, cache: FeatureCache, photographs: PhotoFolder, chosen: list[str]
) -> list[Picture]:
    """The chosen images of a cache, best first: noise moves scores a little from evaluation's."""
    place = {image_id: row for row, image_id in enumerate(cache.ids)}
    ids = sorted(chosen, key=place.__getitem__)
    indices = [place[image_id] for image_id in ids]
    keys = torch.from_numpy(cache.read(indices))
    generator = torch.Generator().manual_seed(0)
    discoverer = Discoverer(run.model)
    found = discoverer.run_heads(keys, generator)
    first = torch.zeros(len(keys), dtype=torch.int64)
    masks = discoverer.discover(found, first, "hungarian")
    merged = {source: label_maps(own, cache.side) for source, own in masks.items()}
    order = align(found.slots, first, "hungarian")
    matched = found.attention.gather(2, order[..., None].expand_as(found.attention))
    heads = [label_maps(own, cache.side) for own in matched.unbind(1)]
    masking = run.config.masking
    scored = keys if masking.score == "raw" else run.model.standardised(keys)
    uniform = torch.rand(keys.shape[:2], generator=generator)
    visible = visible_patches(scored, masking.strategy, masking.ratio, uniform).numpy()
    geometry = Geometry(cache.attributes["geometry"], cache.side)
    drawn = [
        Picture(
            image_id,
            geometry.image(photographs.image(image_id)),
            cache.classes[index],
            visible[row],
            {source: own[row] for source, own in merged.items()},
            [own[row] for own in heads],
        )
        for row, (image_id, index) in enumerate(zip(ids, indices, strict=True))
    ]
    return sorted(drawn, key=lambda picture: -picture.score)


@torch.inference_mode()
def attention_over_iterations(
    run: Run, cache: FeatureCache, image_id: str, iterations: int
) -> np.ndarray:
    """The first head's attention in one image after 1, 2, … iterations: (iterations, K, P)."""
    index = cache.ids.index(image_id)
    keys = torch.from_numpy(cache.read(slice(index, index + 1)))
    return np.concatenate(
        [
            Discoverer(run.model, iterations=number)
            .run_heads(keys, torch.Generator().manual_seed(0))
            .attention[:, 0]
            .numpy()
            for number in range(1, iterations + 1)
        ]
    )


def objects_of(truth: np.ndarray) -> list[int]:
    return [label for label in np.unique(truth) if label not in (0, VOID)]


def best_slots(prediction: np.ndarray, truth: np.ndarray) -> list[int]:
    """For every class in the image, the slot that overlaps it best."""
    truth = GroundTruth(truth, None)
    overlap = truth.overlaps(truth.classes, truth.counts(prediction))
    return sorted(set(overlap[truth.classes.first_object :].argmax(axis=1).tolist()))


def overlay(
    axis: plt.Axes, image: np.ndarray, labels: np.ndarray, boxed: list[int], background: int = -1
) -> None:
    """Labels (S, S) in colour over the greyed image, with the tight boxes of those in ``boxed``."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    coloured = 0.45 * grey + 0.55 * PALETTE[labels]
    axis.imshow(np.where((labels == background)[..., None], grey, coloured))
    for label in boxed:
        draw_box(axis, labels == label, "black")


PALETTE = np.array(sns.color_palette("tab10", 10) + sns.color_palette("husl", 60))


def draw_box(axis: plt.Axes, mask: np.ndarray, colour: str, dashes: str = "-") -> None:
    """The tight box of a mask (S, S) bool, with a white rim: to be seen on any ground."""
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


def seen(image: np.ndarray, visible: np.ndarray, grid: int) -> np.ndarray:
    """The image with the patches that training hides darkened: (S, S, 3) float."""
    shown = np.zeros(grid * grid, dtype=bool)
    shown[visible] = True
    patch = image.shape[0] // grid
    mask = shown.reshape(grid, grid).repeat(patch, axis=0).repeat(patch, axis=1)
    return image / 255 * np.where(mask, 1.0, 0.15)[..., None]
