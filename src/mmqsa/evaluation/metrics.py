"""Metrics of one image, all from one table of counts.

Label maps are (S, S) uint8. Pixels that the ground truth marks void (255) are ignored on both
sides: they count in no area, no intersection and no box. A metric that an image cannot have (no
object, no label map) is NaN there, and the image is left out of that metric's mean.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from mmqsa.data.geometry import VOID


class GroundTruth:
    """The labels of one image, prepared once for the many predictions that are held against them.

    Its *regions* are the distinct pairs of class and instance, so that one count of pixels per
    region and slot serves every metric: sums of its rows are the counts of classes and instances.
    """

    def __init__(self, classes: np.ndarray | None, instances: np.ndarray | None):
        """Label maps (S, S) uint8, or None where the image has none of that kind."""
        nothing = np.uint16(VOID)
        pairs = (nothing if classes is None else classes.astype(np.uint16)) * np.uint16(256)
        pairs = pairs + (nothing if instances is None else instances)
        found = np.flatnonzero(np.bincount(pairs.ravel()))
        order = np.zeros(int(found[-1]) + 1, dtype=np.min_scalar_type(len(found)))
        order[found] = np.arange(len(found))
        self.regions = order[pairs]  # (S, S), 0 .. G - 1
        self.number = len(found)
        self.classes = None if classes is None else _membership(found >> 8)
        self.instances = None if instances is None else _membership(found & 255)
        self.valid = self.boxes = None
        if classes is not None:
            self.valid = classes != VOID
            self.boxes = boxes(np.where(self.valid, classes, 0))

    def counts(self, prediction: np.ndarray) -> np.ndarray:
        """Pixels (G, K) of every region that have each predicted label.

        Counted by runs of equal pixels, of which label maps have few, not one by one.
        """
        slots = int(prediction.max()) + 1
        kind = np.min_scalar_type(self.number * slots)
        joint = self.regions.astype(kind, copy=False) * kind.type(slots) + prediction
        joint = joint.ravel()
        starts = np.concatenate(([0], np.flatnonzero(joint[1:] != joint[:-1]) + 1))
        lengths = np.diff(starts, append=joint.size)
        found = np.bincount(joint[starts], weights=lengths, minlength=self.number * slots)
        return found.reshape(self.number, slots)


@dataclass
class Membership:
    """Which regions make up each label, void apart: ``rows`` (L, G) of 0 and 1.

    ``first_object`` is the index of the first label that is no background.
    """

    rows: np.ndarray
    first_object: int


def _membership(label_of_region: np.ndarray) -> Membership:
    labels = np.unique(label_of_region)
    labels = labels[labels != VOID]
    rows = (labels[:, None] == label_of_region).astype(np.float64)
    return Membership(rows, int(len(labels) > 0 and labels[0] == 0))


def image_metrics(prediction: np.ndarray, truth: GroundTruth) -> dict[tuple[str, str], float]:
    """All metrics of one image that its labels allow: {(protocol, metric): value in 0..1}.

    ``paper``, on class label maps: CorLoc (1 when any slot's box and any class's box overlap with
    IoU > 0.5), mIoU with the background as one more segment, and mBO^c. ``dinosaur``, on instance
    label maps, objects only: FG-ARI, mBO^i, mIoU; and mBO^c again.
    """
    values, found = {}, truth.counts(prediction)
    if truth.classes is not None:
        overlap = overlaps(truth.classes.rows @ found)
        values["paper", "corloc"] = corloc(prediction, truth)
        values["paper", "miou_with_background"] = matched_iou(overlap)
        values["paper", "mbo_c"] = best_overlap(overlap[truth.classes.first_object :])
    if truth.instances is not None:
        table, first = truth.instances.rows @ found, truth.instances.first_object
        objects = overlaps(table)[first:]
        values["dinosaur", "fg_ari"] = adjusted_rand_index(table[first:])
        values["dinosaur", "mbo_i"] = best_overlap(objects)
        values["dinosaur", "miou"] = matched_iou(objects)
        if truth.classes is not None:
            values["dinosaur", "mbo_c"] = values["paper", "mbo_c"]
    return values


def overlaps(table: np.ndarray) -> np.ndarray:
    """Counts (L, K) of all labels' pixels in each slot -> intersection over union (L, K)."""
    areas = table.sum(axis=1, keepdims=True)
    return table / np.maximum(areas + table.sum(axis=0) - table, 1)


def best_overlap(objects: np.ndarray) -> float:
    """IoUs (G, K) -> mean over objects of the best slot's IoU (mBO); a slot may serve twice."""
    return float(objects.max(axis=1).mean()) if len(objects) else float("nan")


def matched_iou(overlap: np.ndarray) -> float:
    """IoUs (G, K) -> mean over segments of the IoU under the best one-to-one assignment.

    A segment that gets no slot (G > K) counts as 0.
    """
    if not len(overlap):
        return float("nan")
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return float(overlap[rows, columns].sum() / len(overlap))


def adjusted_rand_index(table: np.ndarray) -> float:
    """Adjusted Rand index of counts (G, K) (Hubert and Arabie, 1985), as scikit-learn has it.

    A single object that is a single slot is a perfect match, 1; split up it is 0.
    """
    pixels = table.sum()
    if not pixels:
        return float("nan")
    table = table.astype(np.float64)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    expected = rows * columns / max(_pairs(float(pixels)), 1.0)
    most = (rows + columns) / 2
    if most == expected:
        return 1.0
    return float((together - expected) / (most - expected))


def _pairs(number):
    return number * (number - 1) / 2


def boxes(labels: np.ndarray) -> np.ndarray:
    """The tight box of every label but 0: (M, 4) x0 y0 x1 y1 in px, x1 and y1 exclusive."""
    found = [window for window in find_objects(labels) if window is not None]
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in found]
    return np.array(corners, dtype=np.float64).reshape(-1, 4)


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Boxes (M, 4) and (N, 4) -> IoU (M, N)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = (high - low).clip(0).prod(axis=2)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (first, second)]
    return overlap / np.maximum(areas[0][:, None] + areas[1][None] - overlap, 1e-9)


def slot_boxes(prediction: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The tight boxes (M, 4) of the M slots that have any valid pixel, as ``boxes`` gives them.

    One bit per slot, so that a single pass along each axis tells all slots' extents.
    """
    slots = int(prediction.max()) + 1
    kind = np.min_scalar_type((1 << slots) - 1)
    bits = np.left_shift(kind.type(1), prediction, dtype=kind)
    bits *= valid
    (x0, x1, seen), (y0, y1, _) = (_extent(bits, axis, slots) for axis in (0, 1))
    return np.stack([x0, y0, x1, y1], axis=1)[seen].astype(np.float64)


def _extent(bits: np.ndarray, axis: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and one past the last position of every slot once ``axis`` is reduced; and if any."""
    along = np.bitwise_or.reduce(bits, axis=axis)
    shifts = np.arange(slots, dtype=bits.dtype)
    present = (along[None] >> shifts[:, None]) & bits.dtype.type(1)  # (K, S)
    return (
        present.argmax(axis=1),
        present.shape[1] - present[:, ::-1].argmax(axis=1),
        present.any(axis=1),
    )


def corloc(prediction: np.ndarray, truth: GroundTruth) -> float:
    """1 when any slot's box has IoU > 0.5 with any class's box (all its pixels), else 0."""
    if not len(truth.boxes):
        return float("nan")
    found = slot_boxes(prediction, truth.valid)
    return float(len(found) > 0 and box_ious(found, truth.boxes).max() > 0.5)
