"""What a feature cache is scored by: the protocols that its geometry and labels allow.

paper      crop      class label maps, void ignored (the paper's, aligned)
dinosaur   crop      instance label maps, void ignored (DINOSAUR, SPOT)
released   released  class label maps, void counted (the released code's, misaligned)
boxes      squash    the boxes of Annotations (DINOSAUR: any; LOST, TokenCut: one an image)
"""

import numpy as np

from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import (
    GroundTruth,
    box_metrics,
    image_metrics,
    object_ious,
    slot_boxes,
)
from mmqsa.features.cache import FeatureCache


class CacheTruth:
    """The ground truth of a cache's images, prepared when an image is first asked for and kept."""

    def __init__(self, cache: FeatureCache):
        """Raises InputError when no protocol fits the cache."""
        self._cache = cache
        self._geometry = cache.attributes["geometry"]
        self._of_boxes = self._geometry == "squash"
        self._prepared: dict[int, GroundTruth] = {}
        if self._of_boxes and cache.boxes is None:
            raise InputError(
                f"{cache.path}: has no boxes, and squashed images are scored by boxes; extract "
                "a split that has Annotations, or with --variant crop"
            )
        if not self._of_boxes and cache.classes is None and cache.instances is None:
            raise InputError(f"{cache.path}: has no label maps, so nothing can be scored on it")

    def metrics(
        self, index: int, prediction: np.ndarray, boxes: np.ndarray | None
    ) -> dict[tuple[str, str], float]:
        """{(protocol, metric): value in 0..1} of one image's label map (S, S).

        ``boxes`` (M, 4) in px are a method's own, the one box first; None: one of each slot.
        """
        if not self._of_boxes:
            return image_metrics(prediction, self._truth(index), boxes)
        if boxes is None:
            boxes = slot_boxes(prediction, np.ones(prediction.shape, dtype=bool))
        found = box_metrics(boxes, self._cache.boxes[index])
        return {("boxes", metric): value for metric, value in found.items()}

    def objects(self, index: int, prediction: np.ndarray) -> list[dict]:
        """Every object of one image: which labels, class, share of the image, best slot's IoU."""
        if self._of_boxes:
            return []
        truth, rows = self._truth(index), []
        found = truth.counts(prediction)
        for kind, labels in (("class", truth.classes), ("instance", truth.instances)):
            if labels is not None:
                overlaps = object_ious(truth, labels, found)
                for (label, share), iou in zip(truth.objects(labels), overlaps, strict=True):
                    rows.append({"labels": kind, "class": label, "share": share, "iou": iou})
        return rows

    def _truth(self, index: int) -> GroundTruth:
        if index not in self._prepared:
            released = self._geometry == "released"
            maps = self._cache.classes, None if released else self._cache.instances
            own = [None if found is None else found[index] for found in maps]
            self._prepared[index] = GroundTruth(*own, void_ignored=not released)
        return self._prepared[index]
