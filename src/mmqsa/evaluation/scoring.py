"""Masks to label maps to tables of metrics, for runs, controls and baselines alike."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.atomic import write_new
from mmqsa.config.tables import GEOMETRY_PROTOCOLS, pack, unpack
from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.features.cache import FeatureCache
from mmqsa.paths import beside


def label_maps(masks: Tensor, side: int) -> np.ndarray:
    """Masks (B, K, N) -> the slot of each pixel, (B, S, S) uint8: bilinear upsampling, argmax."""
    return winning_slots(masks, side, side)[0].cpu().numpy()


def winning_slots(masks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Masks (B, K, N) -> the slot that wins each pixel (B, h, w) uint8, and its mask's value there.

    Bilinear upsampling is linear in rows and in columns, so it is a product with one matrix for
    each. Slots are taken one at a time, so that K full-size maps are never held. Ties go to the
    earlier slot.
    """
    batch, num_slots, num_patches = masks.shape
    grid = round(num_patches**0.5)
    square = masks.float().view(batch, num_slots, grid, grid)
    to_rows, to_columns = (_bilinear(grid, size).to(masks.device) for size in (height, width))
    rows = to_rows @ square  # (B, K, h, grid)
    best = rows[:, 0] @ to_columns.T
    winner = torch.zeros(best.shape, dtype=torch.uint8, device=masks.device)
    for slot in range(1, num_slots):
        candidate = rows[:, slot] @ to_columns.T
        higher = torch.gt(candidate, best).view(torch.uint8)
        torch.maximum(winner, higher.mul_(slot), out=winner)  # a later slot's index is the larger
        torch.maximum(best, candidate, out=best)
    return winner, best


def _bilinear(grid: int, side: int) -> Tensor:
    """The (S, grid) matrix of bilinear upsampling along one axis."""
    impulses = torch.eye(grid)[None]  # (1, grid, grid): one channel per input position
    return F.interpolate(impulses, size=side, mode="linear", align_corners=False)[0].T


OBJECT_COLUMNS = ["image_id", "labels", "class", "share", "iou"]


class Scorer:
    """Collects metrics of named predictions on the labels of one cache, image by image.

    The cache's geometry decides the protocols (GEOMETRY_PROTOCOLS): the released one is scored with
    void counted, as there, and with void ignored, to tell what geometry and void cost.
    """

    def __init__(self, cache: FeatureCache, single_boxes: bool = False):
        """``single_boxes``: by the protocol ``single`` as well, which is slow.

        Raises InputError when the cache has no labels for any protocol.
        """
        self.ids = cache.ids
        self._cache, self._geometry = cache, cache.attributes["geometry"]
        self._protocols = [
            protocol
            for protocol in GEOMETRY_PROTOCOLS[self._geometry]
            if single_boxes or protocol != "single"
        ]
        self._prepared: dict[int, GroundTruth] = {}
        if self._geometry == "squash":
            if cache.boxes is None:
                raise InputError(
                    f"{cache.path}: has no boxes, and squashed images are scored by boxes; extract "
                    "a split that has Annotations, or with --variant crop"
                )
        elif cache.classes is None and cache.instances is None:
            raise InputError(f"{cache.path}: has no label maps, so nothing can be scored on it")
        self._rows: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []

    def add(
        self,
        indices: Iterable[int],
        predictions: np.ndarray,
        boxes: Sequence[np.ndarray | None] | None = None,
        with_objects: bool = False,
        void: bool | None = None,
        **names: str | int,
    ) -> None:
        """Score predictions (B, S, S) of the images at ``indices`` under the given names.

        ``boxes`` are a method's own for each image, (M, 4) px, the one box first; without them
        every slot has its tight box. ``with_objects`` scores each object apart as well. ``void``
        marks predictions that their method had nothing to go by; None: it is not asked.
        """
        boxes = boxes or [None] * len(predictions)
        for index, prediction, predicted in zip(indices, predictions, boxes, strict=True):
            values = image_metrics(prediction, self._truth(index), predicted)
            row: dict[str, Any] = {"image_id": self.ids[index], **names}
            marked = {} if void is None else {"void": int(void)}
            self._rows.append(row | marked | {pack(*name): value for name, value in values.items()})
            if with_objects:
                self._objects += [row | entry for entry in self._of_objects(index, prediction)]

    def _truth(self, index: int) -> GroundTruth:
        """The labels of an image, prepared when it is first asked for and kept."""
        if index not in self._prepared:
            cache = self._cache
            boxes, classes, instances = (
                None if labels is None else labels[index]
                for labels in (cache.boxes, cache.classes, cache.instances)
            )
            if self._geometry == "squash":
                truth = GroundTruth(None, None, self._protocols, boxes)
            else:
                of_objects = instances if self._geometry == "crop" else None
                truth = GroundTruth(classes, of_objects, self._protocols)
            self._prepared[index] = truth
        return self._prepared[index]

    def _of_objects(self, index: int, prediction: np.ndarray) -> Iterator[dict[str, Any]]:
        """Every object of an image: kind of labels, class, share of the image, best slot's IoU."""
        truth = self._truth(index)
        counts = truth.counts(prediction)
        for kind, labels in (("class", truth.classes), ("instance", truth.instances)):
            if labels is not None:
                best = truth.overlaps(labels, counts)[labels.first_object :].max(axis=1)
                for (label, share), iou in zip(truth.objects(labels), best, strict=True):
                    yield {"labels": kind, "class": label, "share": share, "iou": iou}

    @property
    def per_object(self) -> pd.DataFrame:
        """One row per object and prediction: labels, class, share of the image and IoU, in 0..1."""
        return pd.DataFrame(self._objects)

    @property
    def per_image(self) -> pd.DataFrame:
        """One row per image and prediction; metrics, in 0..1, in columns named by ``pack``."""
        return pd.DataFrame(self._rows)

    def metrics(self, names: list[str]) -> pd.DataFrame:
        """Means over images, in percent: one row per prediction, protocol and metric.

        ``void``: share of the images where the prediction had nothing to go by, if that is known.
        """
        per_image, rows = self.per_image, []
        for key, group in per_image.groupby(names, sort=False):
            for column, (protocol, metric) in unpack(per_image).items():
                values = group[column].dropna()
                row = dict(zip(names, key, strict=True)) | {"protocol": protocol, "metric": metric}
                if "void" in group:
                    row["void"] = round(100 * group["void"].mean(), 4)
                value = round(100 * values.mean(), 4)
                rows.append(row | {"value": value, "n_images": len(values)})
        return pd.DataFrame(rows)

    def write(self, path: Path, names: list[str]) -> Path:
        """Write ``path`` (means), and beside it ``-per_image`` and ``-per_object``.

        Where boxes are scored there are no objects to list: that file has its heading alone.
        """
        objects = self.per_object if self._objects else pd.DataFrame(columns=OBJECT_COLUMNS)
        write_csv(self.per_image, beside(path, "per_image"))
        write_csv(objects, beside(path, "per_object"))
        write_csv(self.metrics(names), path)
        return path


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all, compressed if ``path`` ends in .gz.

    The same table gives the same bytes: a compressed one holds neither a time nor a name. Raises
    InputError when another table is there, which stays.
    """
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()
    write_new(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
