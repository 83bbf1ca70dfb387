"""The ground truth of a feature cache, and which protocols its geometry and labels allow.

crop: paper and dinosaur; released: released; squash: boxes. See metrics.py.
"""

from typing import Any

import numpy as np

from mmqsa.errors import InputError
from mmqsa.evaluation.metrics import GroundTruth, image_metrics
from mmqsa.features.cache import FeatureCache


class CacheTruth:
    """The ground truth of a cache's images, prepared when an image is first asked for and kept."""

    def __init__(self, cache: FeatureCache):
        """Raises InputError when no protocol fits the cache."""
        self._cache = cache
        self._geometry = cache.attributes["geometry"]
        self._prepared: dict[int, GroundTruth] = {}
        if self._geometry == "squash":
            if cache.boxes is None:
                raise InputError(
                    f"{cache.path}: has no boxes, and squashed images are scored by boxes; extract "
                    "a split that has Annotations, or with --variant crop"
                )
        elif cache.classes is None and cache.instances is None:
            raise InputError(f"{cache.path}: has no label maps, so nothing can be scored on it")

    def metrics(
        self, index: int, prediction: np.ndarray, boxes: np.ndarray | None
    ) -> dict[tuple[str, str], float]:
        """{(protocol, metric): value in 0..1} of one image's label map (S, S).

        ``boxes`` (M, 4) px are a method's own, the one box first; None: those of the slots.
        """
        return image_metrics(prediction, self._truth(index), boxes)

    def objects(self, index: int, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Every object of one image: kind of labels, class, share of the image, best slot's IoU."""
        truth, rows = self._truth(index), []
        counts = truth.counts(prediction)
        for kind, labels in (("class", truth.classes), ("instance", truth.instances)):
            if labels is not None:
                best = truth.overlaps(labels, counts)[labels.first_object :].max(axis=1)
                for (label, share), iou in zip(truth.objects(labels), best, strict=True):
                    rows.append({"labels": kind, "class": label, "share": share, "iou": iou})
        return rows

    def _truth(self, index: int) -> GroundTruth:
        if index not in self._prepared:
            self._prepared[index] = self._prepare(index)
        return self._prepared[index]

    def _prepare(self, index: int) -> GroundTruth:
        cache = self._cache
        if self._geometry == "squash" and cache.boxes is not None:
            return GroundTruth(None, None, annotated_boxes=cache.boxes[index])
        classes = None if cache.classes is None else cache.classes[index]
        if self._geometry == "released":
            return GroundTruth(classes, None, void_ignored=False)
        return GroundTruth(classes, None if cache.instances is None else cache.instances[index])
