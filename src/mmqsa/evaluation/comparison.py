"""One prediction on the labels of one image: the counts that every metric is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import (
    border_counts,
    box_ious,
    boxes,
    largest_part,
    one_slot,
    slot_boxes,
    slot_extents,
)

__all__ = ["Comparison", "GroundTruth", "Membership", "NoLabelsError"]

Array = NDArray[Any]
T = TypeVar("T")


class NoLabelsError(LookupError):
    """The image has no labels of the kind that a metric needs."""


def checked_label_map(prediction: Array, shape: tuple[int, ...]) -> Array:
    """A label map as small unsigned integers. Raises InputError where it is none of ``shape``.

    That is () where the image has boxes alone, which fit a label map of any size.

    >>> checked_label_map(np.zeros((2, 2)), (2, 2))
    Traceback (most recent call last):
    mmqsa.errors.InputError: prediction: float64; expected a slot's number in each pixel
    """
    if prediction.shape != (shape or prediction.shape) or prediction.ndim != 2:
        raise InputError(f"prediction: of shape {prediction.shape}; its labels have {shape}")
    if prediction.dtype in (np.uint8, np.uint16):
        return prediction
    if prediction.dtype.kind not in "bui":
        raise InputError(f"prediction: {prediction.dtype}; expected a slot's number in each pixel")
    if prediction.min() < 0 or prediction.max() > np.iinfo(np.uint16).max:
        raise InputError("prediction: a slot below 0 or above 65,535; number them from 0")
    return prediction.astype(np.uint16)


@dataclass(frozen=True)
class Membership:
    """Which regions make up each label but void: ``rows`` (L, G) of 0 and 1.

    ``first_object`` is the index of the first label that is not background.
    """

    rows: Array
    first_object: int

    @classmethod
    def of(cls, label_of_region: Array) -> "Membership":
        """From the label of each region (G,)."""
        labels = np.unique(label_of_region)
        labels = labels[labels != VOID]
        rows = (labels[:, None] == label_of_region).astype(np.float64)
        return cls(rows, int(len(labels) > 0 and labels[0] == 0))


class GroundTruth:
    """The labels of one image, prepared once for all predictions that are compared with them.

    Its G *regions* are the distinct pairs of class and instance, so that one count of pixels per
    region and slot serves every metric: sums of its rows are the counts of classes and instances.

    >>> classes = np.array([[0, 0, 3, 3, 255]] * 4, dtype=np.uint8)  # 255 is void
    >>> objects = np.array([[0, 0, 1, 2, 255]] * 4, dtype=np.uint8)
    >>> truth = GroundTruth(classes, objects)
    >>> truth.protocols
    ['paper', 'dinosaur', 'spot']
    >>> truth.boxes  # x0 y0 x1 y1, of the pixels of class 3
    array([[2., 0., 4., 4.]])
    >>> slots = np.array([[0, 0, 0, 1, 1]] * 4, dtype=np.uint8)
    >>> truth.counts(slots)  # background, object 1, object 2 and void in slots 0 and 1
    array([[8., 0.],
           [4., 0.],
           [0., 4.],
           [0., 4.]])
    """

    def __init__(
        self,
        classes: Array | None,
        instances: Array | None,
        protocols: Sequence[str] = ("paper", "dinosaur", "spot", "boxes"),
        annotated_boxes: Array | None = None,
    ):
        """Label maps (S, S) uint8 and boxes (M, 4) px; None where the image has none of a kind.

        ``protocols`` are those to score by; of them, ``self.protocols`` are those that the labels
        allow.
        """
        absent = np.uint16(VOID)
        pairs = (absent if classes is None else classes.astype(np.uint16)) * np.uint16(256)
        pairs = pairs + (absent if instances is None else instances)
        sizes = np.bincount(pairs.ravel())
        present = np.flatnonzero(sizes)
        order = np.zeros(int(present[-1]) + 1, dtype=np.min_scalar_type(len(present)))
        order[present] = np.arange(len(present))
        self.regions = order[pairs]  # (S, S), 0 .. G - 1
        self.sizes = sizes[present].astype(np.float64)  # (G,) px
        self.region_classes, self.region_instances = present >> 8, present & 255
        self.classes = None if classes is None else Membership.of(self.region_classes)
        self.instances = None if instances is None else Membership.of(self.region_instances)
        self.valid: Array | None = None  # (S, S) bool; None: all pixels
        self.boxes = annotated_boxes
        allowed = {"boxes", "single"} if annotated_boxes is not None else set()
        if classes is not None:
            self.valid = classes != VOID
            self.boxes = boxes(np.where(self.valid, classes, 0))
            allowed |= {"paper", "released", "spot", "single"}
        if instances is not None:
            allowed |= {"dinosaur", "spot"}
        self.protocols = [protocol for protocol in protocols if protocol in allowed]

    def counts(self, prediction: Array) -> Array:
        """Pixels (G, K) of every region, void ones too, that have each predicted label.

        Counted by runs of equal pixels, of which label maps have few, instead of pixel by pixel.
        """
        num_slots, num_regions = int(prediction.max()) + 1, len(self.sizes)
        kind = np.min_scalar_type(num_regions * num_slots)
        joint = self.regions.astype(kind, copy=False) * kind.type(num_slots) + prediction
        joint = joint.ravel()
        starts = np.concatenate(([0], np.flatnonzero(joint[1:] != joint[:-1]) + 1))
        lengths = np.diff(starts, append=joint.size)
        table = np.bincount(joint[starts], weights=lengths, minlength=num_regions * num_slots)
        return table.reshape(num_regions, num_slots)

    def overlaps(self, labels: Membership, counts: Array, void_counts: bool = False) -> Array:
        """Counts (G, K) of regions -> intersection over union (L, K) of all labels but void.

        ``void_counts``: void pixels belong to the slots that have them.
        """
        table: Array = labels.rows @ counts
        slots = (counts if void_counts else table).sum(axis=0)
        ious: Array = table / np.maximum(table.sum(axis=1, keepdims=True) + slots - table, 1)
        return ious

    def objects(self, labels: Membership) -> list[tuple[int, float]]:
        """Class and share of the valid image, 0..1, of each object; class VOID where unknown."""
        areas = labels.rows * self.sizes  # (L, G)
        share = areas.sum(axis=1) / max(areas.sum(), 1)
        first = labels.first_object
        classes = self.region_classes[areas.argmax(axis=1)]
        return list(zip(classes[first:].tolist(), share[first:].tolist(), strict=True))


class Comparison:
    """One prediction on one image: what every metric is computed from, each part at most once.

    A part that needs labels that the image does not have raises NoLabelsError.

    >>> labels = np.array([[0, 0, 3, 3, 255]] * 4, dtype=np.uint8)
    >>> slots = np.array([[0, 0, 0, 1, 1]] * 4, dtype=np.uint8)
    >>> image = Comparison(slots, GroundTruth(labels, labels))
    >>> image.class_ious.round(2)  # background and class 3 with slots 0 and 1
    array([[0.67, 0.  ],
           [0.25, 0.5 ]])
    >>> image.instance_ious
    array([[0.25, 0.5 ]])
    """

    def __init__(
        self,
        prediction: Array,
        truth: GroundTruth,
        boxes: Array | None = None,
        protocol: str = "paper",
        counts: Array | None = None,
    ):
        """``boxes`` (M, 4) px are the predicted ones, the one box first; None: the slots' own.

        ``counts`` (G, K) are the truth's of this prediction, where they are known.
        """
        self.prediction, self.truth, self._boxes = prediction, truth, boxes
        self.protocol, self.void_counts = protocol, protocol in ("released", "spot")
        self.counts: Array = truth.counts(prediction) if counts is None else counts
        """Pixels (G, K) of every region, void ones too, that have each predicted label."""

    @cached_property
    def class_ious(self) -> Array:
        """IoU (L, K) of every class, the background's first, with every slot."""
        labels = _present(self.truth.classes)
        return self.truth.overlaps(labels, self.counts, self.void_counts)

    @property
    def class_object_ious(self) -> Array:
        """IoU (L, K) of every class but the background with every slot."""
        return self.class_ious[_present(self.truth.classes).first_object :]

    @cached_property
    def instance_ious(self) -> Array:
        """IoU (L, K) of every object with every slot."""
        labels = _present(self.truth.instances)
        ious = self.truth.overlaps(labels, self.counts, self.void_counts)
        return ious[labels.first_object :]

    @property
    def instance_counts(self) -> Array:
        """Pixels (L, K) of every object that have each predicted label."""
        labels = _present(self.truth.instances)
        return labels.rows[labels.first_object :] @ self.counts

    @cached_property
    def box_ious(self) -> Array:
        """IoU (M, N) of every predicted box, the one box first, with every true one."""
        truth, boxes, true = self.truth, self._boxes, _present(self.truth.boxes)
        if boxes is None:
            valid = None if self.void_counts else truth.valid
            boxes = slot_boxes(self.prediction, valid, self._areas(valid))
        if self.protocol == "released":  # there a box ends at its last pixel's index
            boxes, true = (ends - [0, 0, 1, 1] for ends in (boxes, true))
        return box_ious(boxes, true)

    @cached_property
    def single_hits(self) -> dict[str, float]:
        """CorLoc of each way to read out one box; a method's own box is what it is.

        ``one`` is the slot of the one box, ``innermost`` the one that covers least of the border,
        the largest of them; ``_part`` is the largest connected part of either.
        """
        true, valid = _present(self.truth.boxes), self.truth.valid
        names = ("one_part", "innermost", "innermost_part")
        if self._boxes is not None:
            return dict.fromkeys(names, any_hit(self.box_ious[:1] > 0.5))
        corners, areas = slot_extents(self.prediction, valid), self._areas(valid)
        border = border_counts(self.prediction, len(areas))
        one, innermost = one_slot(border, areas), np.lexsort((-areas, border, areas == 0))[0]
        parts = {
            slot: largest_part(self.prediction == slot, valid, corners[slot])
            for slot in {one, innermost}
        }
        read = np.stack([parts[one], corners[innermost], parts[innermost]])
        hits = box_ious(read, true) > 0.5
        return {name: any_hit(row[None]) for name, row in zip(names, hits, strict=True)}

    def _areas(self, valid: Array | None) -> Array:
        """Pixels (K,) of every slot: valid ones alone, or with None all."""
        if self.truth.classes is None:
            pixels = self.prediction.ravel() if valid is None else self.prediction[valid]
            return np.bincount(pixels, minlength=int(self.prediction.max()) + 1)
        table = self.counts if valid is None else self.truth.classes.rows @ self.counts
        areas: Array = table.sum(axis=0)
        return areas


def _present(labels: T | None) -> T:
    if labels is None:
        raise NoLabelsError
    return labels


def any_hit(hits: Array) -> float:
    """Hits (M, N) of predicted and true boxes -> 1 or 0, NaN without a true box."""
    return float(hits.any()) if hits.shape[1] else float("nan")
