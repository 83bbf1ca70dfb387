"""Metrics of one image, all from one table of counts.

Label maps are (S, S) uint8. Pixels that the ground truth marks void (255) are ignored on both
sides: they count in no area, no intersection and no box (unless `void_ignored` is False: then no
object has them, but predictions do). A metric that an image cannot have (no object, nothing but
void) is NaN there, and the image is left out of that metric's mean. A slot without a valid pixel
has no box and overlaps nothing; ties go to the earlier slot.
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

    def __init__(
        self,
        classes: np.ndarray | None,
        instances: np.ndarray | None,
        void_ignored: bool = True,
    ):
        """Label maps (S, S) uint8, or None where the image has none of that kind."""
        nothing = np.uint16(VOID)
        pairs = (nothing if classes is None else classes.astype(np.uint16)) * np.uint16(256)
        pairs = pairs + (nothing if instances is None else instances)
        sizes = np.bincount(pairs.ravel())
        found = np.flatnonzero(sizes)
        order = np.zeros(int(found[-1]) + 1, dtype=np.min_scalar_type(len(found)))
        order[found] = np.arange(len(found))
        self.regions = order[pairs]  # (S, S), 0 .. G - 1
        self.sizes = sizes[found].astype(np.float64)  # (G,) px
        self.void_ignored = void_ignored
        self.region_classes = found >> 8
        self.classes = None if classes is None else _membership(self.region_classes)
        self.instances = None if instances is None else _membership(found & 255)
        self.valid = self.boxes = None
        if classes is not None:
            inside = classes != VOID
            self.valid = inside if void_ignored else np.ones_like(inside)
            self.boxes = boxes(np.where(inside, classes, 0))

    def counts(self, prediction: np.ndarray) -> np.ndarray:
        """Pixels (G, K) of every region that have each predicted label.

        Counted by runs of equal pixels, of which label maps have few, not one by one.
        """
        slots, number = int(prediction.max()) + 1, len(self.sizes)
        kind = np.min_scalar_type(number * slots)
        joint = self.regions.astype(kind, copy=False) * kind.type(slots) + prediction
        joint = joint.ravel()
        starts = np.concatenate(([0], np.flatnonzero(joint[1:] != joint[:-1]) + 1))
        lengths = np.diff(starts, append=joint.size)
        found = np.bincount(joint[starts], weights=lengths, minlength=number * slots)
        return found.reshape(number, slots)

    def overlaps(self, labels: "Membership", found: np.ndarray) -> np.ndarray:
        """Counts (G, K) of regions -> intersection over union (L, K) of all labels but void."""
        table = labels.rows @ found
        slots = table.sum(axis=0) if self.void_ignored else found.sum(axis=0)
        areas = table.sum(axis=1, keepdims=True)
        return table / np.maximum(areas + slots - table, 1)

    def objects(self, labels: "Membership") -> list[tuple[int, float]]:
        """Class and share of the valid image, 0..1, of each object; class VOID where unknown."""
        areas = labels.rows * self.sizes  # (L, G)
        share = areas.sum(axis=1) / max(areas.sum(), 1)
        first = labels.first_object
        classes = self.region_classes[areas.argmax(axis=1)]
        return list(zip(classes[first:].tolist(), share[first:].tolist(), strict=True))


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


def image_metrics(
    prediction: np.ndarray, truth: GroundTruth, boxes: np.ndarray | None = None
) -> dict[tuple[str, str], float]:
    """All that one image's label maps allow: {(protocol, metric): value in 0..1}.

    ``paper`` on class label maps, ``released`` where their void is not ignored, and ``dinosaur`` on
    instance label maps. ``boxes`` (M, 4) are a method's own, the one box first; else each slot's.
    """
    found, values = truth.counts(prediction), {}
    if truth.classes is not None:
        protocol = "paper" if truth.void_ignored else "released"
        own = boxes
        if boxes is None:
            valid = truth.classes.rows @ found if truth.void_ignored else found
            own = slot_boxes(prediction, truth.valid, valid.sum(axis=0))
        for metric, value in _class_metrics(truth, found, own).items():
            values[protocol, metric] = value
    if truth.instances is not None:
        for metric, value in _instance_metrics(truth, found).items():
            values["dinosaur", metric] = value
    return values


def _class_metrics(truth: GroundTruth, found: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """On class label maps.

    ``corloc``: 1 when any predicted box and any class's box (all its pixels) have IoU > 0.5;
    ``corloc_one_box`` when the first one has. ``miou_with_background``: the background is one more
    segment. ``mbo_c``: objects only.
    """
    overlap = truth.overlaps(truth.classes, found)
    any_box, one_box = corloc(own, truth.boxes)
    return {
        "corloc": any_box,
        "corloc_one_box": one_box,
        "miou_with_background": matched_iou(overlap),
        "mbo_c": best_overlap(overlap[truth.classes.first_object :]),
    }


def _instance_metrics(truth: GroundTruth, found: np.ndarray) -> dict[str, float]:
    """On instance label maps, objects only: FG-ARI, mBO^i, mIoU; and mBO^c on class label maps."""
    first = truth.instances.first_object
    objects = truth.overlaps(truth.instances, found)[first:]
    values = {
        "fg_ari": adjusted_rand_index((truth.instances.rows @ found)[first:]),
        "mbo_i": best_overlap(objects),
        "miou": matched_iou(objects),
    }
    if truth.classes is not None:
        overlap = truth.overlaps(truth.classes, found)
        values["mbo_c"] = best_overlap(overlap[truth.classes.first_object :])
    return values


def box_metrics(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Predicted boxes (M, 4), the first of which is the one box, and objects' boxes (N, 4).

    Any box and one box, at IoU > 0.5 (DINOSAUR) and at IoU >= 0.5 (LOST, TokenCut).
    """
    any_box, one_box = corloc(predicted, truth)
    any_equal, one_equal = corloc(predicted, truth, or_equal=True)
    return {
        "corloc": any_box,
        "corloc_one_box": one_box,
        "corloc_or_equal": any_equal,
        "corloc_one_box_or_equal": one_equal,
    }


def object_ious(truth: GroundTruth, labels: Membership, found: np.ndarray) -> np.ndarray:
    """The best slot's IoU of each object (L,), in the order of ``truth.objects``."""
    objects = truth.overlaps(labels, found)[labels.first_object :]
    return objects.max(axis=1) if len(objects) else np.zeros(0)


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


def slot_boxes(
    prediction: np.ndarray, valid: np.ndarray, areas: np.ndarray | None = None
) -> np.ndarray:
    """The tight boxes (M, 4) of the M slots that have any valid pixel, the one box first.

    That is the box of the largest slot, the slot that covers most of the image's border left out:
    a rule that no label is needed for. The others follow in the slots' order. ``areas`` (K,) are
    the slots' valid pixels where they are known. One bit per slot, so that a single pass along each
    axis tells all slots' extents.
    """
    slots = int(prediction.max()) + 1
    kind = np.min_scalar_type((1 << slots) - 1)
    bits = np.left_shift(kind.type(1), prediction, dtype=kind)
    bits *= valid
    (x0, x1, seen), (y0, y1, _) = (_extent(bits, axis, slots) for axis in (0, 1))
    found = np.stack([x0, y0, x1, y1], axis=1).astype(np.float64)
    border = np.concatenate([prediction[[0, -1]].ravel(), prediction[1:-1, [0, -1]].ravel()])
    if areas is None:
        areas = np.bincount(prediction[valid], minlength=slots)
    background = np.bincount(border, minlength=slots).argmax()
    inner = np.where((np.arange(slots) == background) & (seen.sum() > 1), 0, areas)
    order = np.r_[inner.argmax(), np.delete(np.arange(slots), inner.argmax())]
    return found[order][seen[order]]


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


def corloc(predicted: np.ndarray, truth: np.ndarray, or_equal: bool = False) -> tuple[float, float]:
    """Predicted boxes (M, 4) and true ones (N, 4): does any hit, does the first; 0, 1 or NaN.

    A hit is an IoU > 0.5, or >= 0.5. Without a true box both are NaN.
    """
    if not len(truth):
        return float("nan"), float("nan")
    if not len(predicted):
        return 0.0, 0.0
    best = box_ious(predicted, truth).max(axis=1)
    hits = best >= 0.5 if or_equal else best > 0.5
    return float(hits.any()), float(hits[0])
