"""Metrics of one image, all from one table of counts.

Label maps are (S, S) uint8. Pixels that the ground truth marks void (255) are ignored on both
sides: they count in no area, no intersection and no box. A metric that an image cannot have (no
object, no label map) is NaN there, and the image is left out of that metric's mean.
"""

import numpy as np
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from mmqsa.data.geometry import VOID


def image_metrics(
    prediction: np.ndarray, classes: np.ndarray | None, instances: np.ndarray | None
) -> dict[tuple[str, str], float]:
    """All metrics of one image that its labels allow: {(protocol, metric): value in 0..1}.

    ``paper``, on class label maps: CorLoc (1 when any slot's box and any class's box overlap with
    IoU > 0.5), mIoU with the background as one more segment, and mBO^c. ``dinosaur``, on instance
    label maps, objects only: FG-ARI, mBO^i, mIoU; and mBO^c again.
    """
    values = {}
    if classes is not None:
        table = counts(prediction, classes)
        values["paper", "corloc"] = corloc(prediction, classes)
        values["paper", "miou_with_background"] = matched_iou(segments(table))
        values["paper", "mbo_c"] = best_overlap(segments(table, first=1))
    if instances is not None:
        table = counts(prediction, instances)
        objects = segments(table, first=1)
        values["dinosaur", "fg_ari"] = adjusted_rand_index(table[1:])
        values["dinosaur", "mbo_i"] = best_overlap(objects)
        values["dinosaur", "miou"] = matched_iou(objects)
        if classes is not None:
            values["dinosaur", "mbo_c"] = values["paper", "mbo_c"]
    return values


def counts(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels (G, K) with truth label g and predicted label k; rows start at background, 0."""
    valid = truth != VOID
    rows, columns = truth[valid], prediction[valid]
    number = int(columns.max(initial=0)) + 1
    labels = int(rows.max(initial=0)) + 1
    pairs = rows.astype(np.int64) * number + columns
    return np.bincount(pairs, minlength=labels * number).reshape(labels, number)


def segments(table: np.ndarray, first: int = 0) -> np.ndarray:
    """Counts (G, K) -> intersection over union (G', K) of the labels >= ``first`` with pixels."""
    areas = table.sum(axis=1, keepdims=True)
    overlap = table / np.maximum(areas + table.sum(axis=0, keepdims=True) - table, 1)
    return overlap[first:][areas[first:, 0] > 0]


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


def corloc(prediction: np.ndarray, classes: np.ndarray) -> float:
    """1 when any slot's box has IoU > 0.5 with any class's box (all its pixels), else 0."""
    valid = classes != VOID
    truth = boxes(np.where(valid, classes, 0))
    if not len(truth):
        return float("nan")
    found = boxes(np.where(valid, prediction.astype(np.int32) + 1, 0))
    return float(len(found) > 0 and box_ious(found, truth).max() > 0.5)
