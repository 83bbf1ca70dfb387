"""Label maps to tables of metrics: the one road for runs, controls and baselines."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mmqsa.atomic import whole_file
from mmqsa.evaluation.protocols import CacheTruth
from mmqsa.features.cache import FeatureCache


def label_maps(masks: Tensor, side: int) -> np.ndarray:
    """Masks (B, K, N) -> the slot of each pixel, (B, S, S) uint8: bilinear upsampling, argmax."""
    return winning_slots(masks, side, side)[0].cpu().numpy()


def winning_slots(masks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Masks (B, K, N) -> the slot that wins each pixel (B, h, w) uint8, and its mask's value there.

    Bilinear upsampling is linear in rows and in columns, so it is a product with one matrix for
    each; slots are taken one at a time, so that K full-size maps are never held.
    A tie goes to the earlier slot.
    """
    batch, slots, patches = masks.shape
    grid = round(patches**0.5)
    square = masks.float().view(batch, slots, grid, grid)
    to_rows, to_columns = (_bilinear(grid, size).to(masks.device) for size in (height, width))
    rows = to_rows @ square  # (B, K, h, grid)
    best = rows[:, 0] @ to_columns.T
    found = torch.zeros(best.shape, dtype=torch.uint8, device=masks.device)
    for slot in range(1, slots):
        candidate = rows[:, slot] @ to_columns.T
        higher = torch.gt(candidate, best).view(torch.uint8)
        torch.maximum(found, higher.mul_(slot), out=found)  # a later slot's number is the larger
        torch.maximum(best, candidate, out=best)
    return found, best


def _bilinear(grid: int, side: int) -> Tensor:
    """The (S, grid) matrix of bilinear upsampling along one axis."""
    impulses = torch.eye(grid)[None]  # (1, grid, grid): one channel per input position
    return F.interpolate(impulses, size=side, mode="linear", align_corners=False)[0].T


class Scorer:
    """Collects metrics of named predictions on the labels of one cache, image by image."""

    def __init__(self, cache: FeatureCache):
        """Raises InputError when the cache has nothing to score against."""
        self.ids = cache.ids
        self._truth = CacheTruth(cache)
        self._rows: list[dict] = []
        self._objects: list[dict] = []

    def add(
        self,
        indices: Iterable[int],
        predictions: np.ndarray,
        boxes: list[np.ndarray] | None = None,
        with_objects: bool = False,
        **names: str | int,
    ) -> None:
        """Score predictions (B, S, S) of the images at ``indices`` under the given names.

        ``boxes`` are a method's own for each image, (M, 4) in px, the one box first; without them
        every slot has its tight box. ``with_objects`` scores each object apart as well.
        """
        own = boxes or [None] * len(predictions)
        for index, prediction, of_image in zip(indices, predictions, own, strict=True):
            found = self._truth.metrics(index, prediction, of_image)
            values = {f"{protocol}/{metric}": value for (protocol, metric), value in found.items()}
            called = {"image_id": self.ids[index], **names}
            self._rows.append(called | values)
            if with_objects:
                self._objects += [called | row for row in self._truth.objects(index, prediction)]

    @property
    def per_object(self) -> pd.DataFrame:
        """One row per object and prediction: labels, class, share of the image and IoU, in 0..1."""
        return pd.DataFrame(self._objects)

    @property
    def per_image(self) -> pd.DataFrame:
        """One row per image and prediction; metrics in columns called protocol/metric, in 0..1."""
        return pd.DataFrame(self._rows)

    def metrics(self, names: list[str]) -> pd.DataFrame:
        """Means over images, in percent: one row per prediction, protocol and metric."""
        per_image = self.per_image
        columns = [column for column in per_image if "/" in column]
        rows = []
        for key, group in per_image.groupby(names, sort=False):
            for column in columns:
                protocol, metric = column.split("/")
                values = group[column].dropna()
                rows.append(
                    {
                        **dict(zip(names, key, strict=True)),
                        "protocol": protocol,
                        "metric": metric,
                        "value": round(100 * values.mean(), 4),
                        "n_images": len(values),
                    }
                )
        return pd.DataFrame(rows)

    def write(self, path: Path, names: list[str]) -> Path:
        """Write ``path`` (means), and beside it ``-per_image`` and, if scored, ``-per_object``."""
        write_csv(self.per_image, path.with_name(f"{path.stem}-per_image.csv"))
        if self._objects:
            write_csv(self.per_object, path.with_name(f"{path.stem}-per_object.csv"))
        write_csv(self.metrics(names), path)
        return path


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all; the same table gives the same bytes."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
