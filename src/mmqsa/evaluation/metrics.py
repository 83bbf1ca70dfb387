"""Metrics of one predicted label map on one image, all from one table of counts.

Label maps are (S, S) uint8. Pixels that the ground truth marks void (255) are ignored on both
sides: they count in no area, no intersection and no box. Protocols that count void differ: no
object has it, but slots do. A metric that an image cannot have (no object, nothing but void) is
NaN, and the image is left out of that metric's mean. A slot without a valid pixel has no box and
overlaps nothing; ties go to the earlier slot.

A protocol is a set of metrics on one kind of labels; evaluation/protocols.py describes them all.

To add a metric: a function with ``@metric`` here, and its heading in config/tables.py.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmqsa.evaluation.comparison import (
    Array,
    Comparison,
    GroundTruth,
    NoLabelsError,
    any_hit,
    checked_label_map,
)

__all__ = [
    "PROTOCOLS",
    "Comparison",
    "GroundTruth",
    "Metric",
    "adjusted_rand_index",
    "best_overlap",
    "corloc",
    "corloc_innermost_box",
    "corloc_innermost_box_part",
    "corloc_one_box",
    "corloc_one_box_or_equal",
    "corloc_one_box_part",
    "corloc_or_equal",
    "fg_ari",
    "image_metrics",
    "matched_iou",
    "mbo_c",
    "mbo_i",
    "metric",
    "miou",
    "miou_with_background",
]

Metric = Callable[[Comparison], float]
PROTOCOLS: dict[str, dict[str, Metric]] = {
    name: {} for name in ("paper", "released", "dinosaur", "spot", "boxes", "single")
}


def metric(*protocols: str) -> Callable[[Metric], Metric]:
    """Register a function as a metric of ``protocols``, under its own name.

    The example adds recall to the protocol ``dinosaur``, and takes it away again:

    >>> @metric("dinosaur")
    ... def recall_i(image: Comparison) -> float:
    ...     return float((image.instance_ious.max(axis=1) > 0.5).mean())
    >>> list(PROTOCOLS["dinosaur"])
    ['fg_ari', 'mbo_i', 'miou', 'mbo_c', 'recall_i']
    >>> labels = np.array([[0, 1, 1, 2, 2, 2]], dtype=np.uint8)  # two objects on the background
    >>> slots = np.array([[0, 1, 1, 0, 0, 2]], dtype=np.uint8)
    >>> image_metrics(slots, GroundTruth(labels, labels))["dinosaur", "recall_i"]
    0.5
    >>> del PROTOCOLS["dinosaur"]["recall_i"]
    """

    def register(function: Metric) -> Metric:
        for protocol in protocols:
            PROTOCOLS[protocol][function.__name__] = function
        return function

    return register


@metric("paper", "released", "boxes")
def corloc(image: Comparison) -> float:
    """CorLoc: 1 when any predicted box has IoU > 0.5 with the box of any class's pixels.

    A slot whose box is 3 of the object's 4 columns wide has IoU 0.75 with it:

    >>> labels, slots = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    >>> labels[2:6, 2:6], slots[2:6, 2:5] = 1, 1
    >>> corloc(Comparison(slots, GroundTruth(labels, None)))
    1.0
    """
    return any_hit(image.box_ious > 0.5)


@metric("paper", "released", "boxes", "single")
def corloc_one_box(image: Comparison) -> float:
    """CorLoc of the one box.

    The one box is that of the largest slot, except the slot with most of the border. Here that is
    the wrong one, and ``corloc``, which takes any, does not notice:

    >>> labels, slots = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    >>> labels[1:3, 1:3], slots[1:3, 1:3], slots[4:7, 4:7] = 1, 1, 2
    >>> image = Comparison(slots, GroundTruth(labels, None))
    >>> corloc_one_box(image), corloc(image)
    (0.0, 1.0)
    """
    return any_hit(image.box_ious[:1] > 0.5)


@metric("single")
def corloc_one_box_part(image: Comparison) -> float:
    """CorLoc of the largest connected part of the slot of the one box.

    A speck far from the object spoils the slot's box, but not that of its largest part:

    >>> labels, slots = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    >>> labels[1:4, 1:4], slots[1:4, 1:4], slots[6, 6] = 1, 1, 1
    >>> image = Comparison(slots, GroundTruth(labels, None), protocol="single")
    >>> corloc_one_box(image), corloc_one_box_part(image)
    (0.0, 1.0)
    """
    return image.single_hits["one_part"]


@metric("single")
def corloc_innermost_box(image: Comparison) -> float:
    """CorLoc of the slot that covers least of the image's border.

    >>> labels, slots = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    >>> labels[2:4, 2:4], slots[2:4, 2:4], slots[5:8, 1:8] = 1, 1, 2  # slot 2 reaches the border
    >>> image = Comparison(slots, GroundTruth(labels, None), protocol="single")
    >>> corloc_one_box(image), corloc_innermost_box(image)
    (0.0, 1.0)
    """
    return image.single_hits["innermost"]


@metric("single")
def corloc_innermost_box_part(image: Comparison) -> float:
    """CorLoc of the largest connected part of that slot.

    >>> labels, slots = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    >>> labels[1:4, 1:4], slots[1:4, 1:4], slots[6, 6] = 1, 1, 1  # with a speck
    >>> image = Comparison(slots, GroundTruth(labels, None), protocol="single")
    >>> corloc_innermost_box(image), corloc_innermost_box_part(image)
    (0.0, 1.0)
    """
    return image.single_hits["innermost_part"]


@metric("boxes")
def corloc_or_equal(image: Comparison) -> float:
    """CorLoc at IoU >= 0.5, as LOST and TokenCut count.

    >>> true, predicted = np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 2]])  # IoU 0.5
    >>> nothing = np.zeros((8, 8), np.uint8)
    >>> image = Comparison(nothing, GroundTruth(None, None, ["boxes"], true), predicted, "boxes")
    >>> corloc_or_equal(image), corloc(image)
    (1.0, 0.0)
    """
    return any_hit(image.box_ious >= 0.5)


@metric("boxes")
def corloc_one_box_or_equal(image: Comparison) -> float:
    """CorLoc of the one box at IoU >= 0.5.

    >>> true = np.array([[0.0, 0, 4, 4]])
    >>> predicted = np.array([[5.0, 5, 8, 8], [0, 0, 4, 2]])  # the second has IoU 0.5
    >>> nothing = np.zeros((8, 8), np.uint8)
    >>> image = Comparison(nothing, GroundTruth(None, None, ["boxes"], true), predicted, "boxes")
    >>> corloc_one_box_or_equal(image), corloc_or_equal(image)
    (0.0, 1.0)
    """
    return any_hit(image.box_ious[:1] >= 0.5)


@metric("paper", "released")
def miou_with_background(image: Comparison) -> float:
    """Mean over classes, the background included, of the IoU with the slot matched to each.

    >>> labels = np.array([[0, 0, 7, 7]] * 4, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 0, 1]] * 4, dtype=np.uint8)
    >>> round(miou_with_background(Comparison(slots, GroundTruth(labels, None))), 3)  # 2/3 and 1/2
    0.583
    """
    return matched_iou(image.class_ious)


@metric("dinosaur", "spot")
def fg_ari(image: Comparison) -> float:
    """Adjusted Rand index of the objects' pixels.

    Background does not count: slots that leak into it lose nothing.

    >>> objects = np.array([[0, 0, 1, 1, 2, 2]] * 4, dtype=np.uint8)
    >>> leaking = np.array([[1, 1, 1, 1, 2, 2]] * 4, dtype=np.uint8)
    >>> mixed = np.array([[0, 0, 1, 2, 1, 2]] * 4, dtype=np.uint8)
    >>> truth = GroundTruth(None, objects)
    >>> [round(fg_ari(Comparison(slots, truth)), 2) for slots in (leaking, mixed)]
    [1.0, -0.07]
    """
    return adjusted_rand_index(image.instance_counts)


@metric("dinosaur", "spot")
def mbo_i(image: Comparison) -> float:
    """Mean over objects of the best slot's IoU.

    >>> objects = np.array([[0, 0, 1, 1, 2, 2]] * 4, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 1, 1, 1, 1]] * 4, dtype=np.uint8)  # one slot for both
    >>> mbo_i(Comparison(slots, GroundTruth(None, objects)))
    0.5
    """
    return best_overlap(image.instance_ious)


@metric("dinosaur", "spot")
def miou(image: Comparison) -> float:
    """Mean over objects of the IoU with the slot matched to each.

    A slot serves one object only, so that two objects in one slot cost more than in ``mbo_i``:

    >>> objects = np.array([[0, 0, 1, 1, 2, 2]] * 4, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 1, 1, 1, 1]] * 4, dtype=np.uint8)
    >>> miou(Comparison(slots, GroundTruth(None, objects)))
    0.25
    """
    return matched_iou(image.instance_ious)


@metric("paper", "released", "dinosaur", "spot")
def mbo_c(image: Comparison) -> float:
    """Mean over classes but the background of the best slot's IoU.

    >>> classes = np.array([[0, 0, 7, 7]] * 4, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 0, 1]] * 4, dtype=np.uint8)
    >>> mbo_c(Comparison(slots, GroundTruth(classes, None)))
    0.5
    """
    return best_overlap(image.class_object_ious)


def image_metrics(
    prediction: Array, truth: GroundTruth, boxes: Array | None = None
) -> dict[tuple[str, str], float]:
    """All metrics that one image's labels allow: {(protocol, metric): value in 0..1}.

    ``prediction`` (S, S) has whole numbers, at most 65,536 slots. ``boxes`` (M, 4) px are a
    method's own, the one box first; None: those of the slots. Raises InputError where it is no
    label map of the size of the labels.

    >>> classes = np.array([[0, 0, 7, 7, 7, 255]] * 6, dtype=np.uint8)  # 255 is void
    >>> objects = np.array([[0, 0, 1, 1, 2, 255]] * 6, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 0, 1, 1, 1]] * 6, dtype=np.uint8)
    >>> found = image_metrics(slots, GroundTruth(classes, objects))
    >>> for (protocol, name), value in found.items():
    ...     print(f"{protocol:9}{name:21}{value:.3f}")
    paper    corloc               1.000
    paper    corloc_one_box       1.000
    paper    miou_with_background 0.667
    paper    mbo_c                0.667
    dinosaur fg_ari               0.056
    dinosaur mbo_i                0.417
    dinosaur miou                 0.375
    dinosaur mbo_c                0.667
    spot     fg_ari               0.056
    spot     mbo_i                0.292
    spot     miou                 0.292
    spot     mbo_c                0.500
    """
    prediction = checked_label_map(prediction, truth.regions.shape)
    counts, values = truth.counts(prediction), {}
    for protocol in truth.protocols:
        image = Comparison(prediction, truth, boxes, protocol, counts)
        for name, function in PROTOCOLS[protocol].items():
            with suppress(NoLabelsError):
                values[protocol, name] = function(image)
    return values


def best_overlap(ious: Array) -> float:
    """IoUs (L, K) -> mean over segments of the best slot's IoU (mBO); a slot may serve twice.

    >>> best_overlap(np.array([[0.8, 0.1], [0.6, 0.3]]))  # the first slot is best for both
    0.7
    """
    return float(ious.max(axis=1).mean()) if len(ious) else float("nan")


def matched_iou(ious: Array) -> float:
    """IoUs (L, K) -> mean over segments of the IoU under the best one-to-one assignment.

    A segment that gets no slot (L > K) counts as 0.

    >>> ious = np.array([[0.8, 0.1], [0.6, 0.3]])
    >>> round(matched_iou(ious), 3)  # 0.8 and 0.3
    0.55
    >>> matched_iou(ious[:, :1])  # one slot, two segments
    0.4
    """
    if not len(ious):
        return float("nan")
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return float(ious[rows, columns].sum() / len(ious))


def adjusted_rand_index(table: Array) -> float:
    """Adjusted Rand index of counts (L, K) (Hubert and Arabie, 1985), as scikit-learn has it.

    A single object that is a single slot is a perfect match, 1; split up it is 0.

    >>> table = np.array([[90, 10], [20, 80]])  # pixels of two objects in two slots
    >>> round(adjusted_rand_index(table), 3)
    0.487
    """
    pixels = table.sum()
    if not pixels:
        return float("nan")
    table = table.astype(np.float64)
    together, all_pairs = _pairs(table), _pairs(table.sum(keepdims=True))
    rows, columns = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    expected = rows * columns / max(all_pairs, 1.0)
    most = (rows + columns) / 2
    if most == expected:
        return 1.0
    return float((together - expected) / (most - expected))


def _pairs(pixels: Array) -> float:
    """Numbers of pixels -> the number of pairs within each, summed."""
    return float((pixels * (pixels - 1)).sum() / 2)
