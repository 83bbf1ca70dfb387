"""What the labels of an image set hold, said or refused before anything is scored on them."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from mmqsa.config.tables import METRICS
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.boxes import box_ious, boxes
from mmqsa.evaluation.comparison import Array, GroundTruth
from mmqsa.evaluation.labelled_images import LabelledImages
from mmqsa.evaluation.metrics import PROTOCOLS, image_metrics
from mmqsa.progress import notice_once

__all__ = ["KINDS", "LabelContents", "allowed_metrics"]

# Labels that an image may have, in words, and the geometries whose scores are computed from them.
KINDS = {"classes": "class label maps", "instances": "instance label maps", "boxes": "boxes"}
USED = {
    "crop": ("classes", "instances"),
    "released": ("classes",),
    "squash": ("boxes",),
    "native": ("classes", "instances", "boxes"),
}
ALIKE = 0.5  # IoU of objects, or of boxes, in two kinds of labels, below which they contradict


class LabelContents:
    """Counts, image by image, what each kind of labels holds.

    >>> from mmqsa.features import FeatureCache
    >>> contents = LabelContents(FeatureCache("val.h5"))
    >>> contents.look([GroundTruth(np.array([[0, 7]], np.uint8), np.zeros((1, 2), np.uint8))])
    >>> contents.look([GroundTruth(np.array([[0, 255]], np.uint8), np.zeros((1, 2), np.uint8))])
    >>> contents.found["classes"], contents.found["instances"]
    (Counter({'objects': 1, 'void objects': 1}), Counter({'background': 2}))
    >>> contents.contradicting  # images
    1
    """

    def __init__(self, labels: LabelledImages):
        self.labels = labels
        geometry = labels.attributes["geometry"]
        self.used = USED[geometry]
        self.present = [kind for kind in self.used if getattr(labels, kind) is not None]
        self.found: dict[str, Counter[str]] = {kind: Counter() for kind in self.present}
        self.contradicting = self.one_class = self.one_instance = self.no_background = 0
        self.misplaced_boxes = 0

    def look(self, truths: Sequence[GroundTruth]) -> None:
        """At the labels of an image, label maps first."""
        maps = truths[0]
        classes = None if maps.classes is None else maps.region_classes
        instances = None if maps.instances is None else maps.region_instances
        for kind, of_regions in (("classes", classes), ("instances", instances)):
            if of_regions is not None:
                self.found[kind][_content(of_regions)] += 1
        if "boxes" in self.present:
            annotated = truths[-1].boxes
            has_any = annotated is not None and len(annotated) > 0
            self.found["boxes"]["objects" if has_any else "background"] += 1
            if annotated is not None and maps.instances is not None:
                self.misplaced_boxes += _misplaced(annotated, maps)
        if classes is not None:
            valid = np.unique(classes[classes != VOID])
            self.no_background += len(valid) > 0 and valid[0] > 0
            self.one_class += len(valid) == 1 and valid[0] > 0
        if instances is not None:
            self.one_instance += _num_objects(instances) == 1
        if classes is not None and instances is not None:
            self.contradicting += _contradict(classes, instances, maps.sizes)

    def without_objects(self) -> list[str]:
        """The kinds of labels by which nothing can be scored: no image has an object in them.

        Says which boxes are not where they should be. Raises InputError where these are all kinds
        that the geometry is scored by.
        """
        if "boxes" in self.present:  # before a refusal, whose cause they may be
            self.labels.box_faults.say(self.labels.path)
        empty = [kind for kind in self.present if not self.found[kind]["objects"]]
        if len(empty) == len(self.present):
            raise InputError(f"{self.labels.path}: {self._nothing(empty)}")
        return empty

    def _nothing(self, empty: list[str]) -> str:
        """Why there is nothing to score, and what to do."""
        labels, geometry = self.labels, self.labels.attributes["geometry"]
        cached = labels.path.is_file()
        again = ", and extract again" if cached else ""
        if empty:
            void = any(self.found[kind]["void objects"] for kind in empty)
            fix = "take a split with labelled objects, or label them as 1, 2, … (0 is background)"
            if empty == ["boxes"]:
                fix = (
                    "take a split with boxes: object/bndbox in each xml of Annotations, or bbox in "
                    "COCO's json"
                )
            if void:
                fix = "label objects 1, 2, …; 255 is void (as are crowds), and no metric counts it"
            return f"{self._lack(empty)}, so nothing can be scored; {fix}{again}"
        by_boxes = {"squash": "squashed images", "native": "photographs without label maps"}
        if geometry in by_boxes:
            unknown = cached and geometry == "native"  # which has boxes alone
            has_maps = unknown or labels.classes is not None or labels.instances is not None
            other = ", or another geometry (crop)" if has_maps else ""
            return (
                f"has no boxes, and {by_boxes[geometry]} are scored by boxes; take a split that "
                f"has any{other}"
            )
        fix = f"take a split that has any{again}"
        if labels.instances is not None:  # which `released` does not use
            fix += ", or another geometry (crop)"
        elif labels.boxes is not None:
            option = "extract with --variant" if cached else "use --geometry"
            fix = f"its boxes are enough for another geometry: {option} squash or native"
        maps = "label maps" if geometry != "released" else KINDS["classes"]
        return f"has no {maps}, so nothing can be scored on it; {fix}"

    def _lack(self, kinds: Collection[str]) -> str:
        """In how many images those kinds of labels have no object, and what they have instead."""
        alike: dict[tuple[str, str], list[str]] = {}  # kinds of which the same can be said
        for kind in kinds:
            alike.setdefault(self._without(kind), []).append(KINDS[kind])
        return "; ".join(
            f"no object in {number} ({'label maps' if len(names) > 1 else names[0]}){instead}"
            for (number, instead), names in alike.items()
        )

    def _without(self, kind: str) -> tuple[str, str]:
        """How many images have no object, and what those have instead."""
        found, total = self.found[kind], len(self.labels.ids)
        without = total - found["objects"]
        details = []
        for content, said in (
            ("void objects", f"all foreground is void ({VOID})"),
            ("void", f"all is void ({VOID}) or not labelled"),
        ):
            if number := found[content]:
                details.append(said if number == without else f"{said} in {number} of them")
        return f"{without} of {total} images", ": " * bool(details) + ", ".join(details)

    def say(self, left_out: dict[str, list[str]]) -> None:
        """Notices of what the labels hold; ``left_out`` are metrics by protocol, all if empty."""
        path, total = self.labels.path, len(self.labels.ids)
        kept = [kind for kind in self.present if self.found[kind]["objects"]]
        if partly := [kind for kind in kept if self.found[kind]["objects"] < total]:
            found = self.found.get("classes", Counter())
            counted = "classes" in partly and found["background"] + found["void objects"]
            but = "; an image without an object counts for mIoU (with bg) alone" if counted else ""
            notice_once(f"{path}: {self._lack(partly)}{but}")
        if left_out:
            missing = [kind for kind in self.used if kind not in self.present]
            reasons = [f"no {KINDS[kind]}" for kind in missing]
            empty = [kind for kind in self.present if kind not in kept]
            reasons += [self._lack(empty)] if empty else []
            notice_once(f"{path}: {_left_out(left_out)}: {', '.join(reasons)}")
        labelled = total - self.found["classes"]["void"] if "classes" in kept else 0
        with_objects = self.found["classes"]["objects"] if "classes" in kept else 0
        if labelled and self.no_background == labelled:
            notice_once(
                f"{path}: no background (0) in any of {labelled} class label maps; is it labelled "
                "as a class? Then it is scored as an object"
            )
        elif with_objects and 2 * self.one_class > with_objects:
            notice_once(
                f"{path}: a single class in every pixel of {self.one_class} of {total} images; one "
                "slot is then right everywhere"
            )
        instances = self.found["instances"]["objects"] if "instances" in kept else 0
        if instances > 1 and self.one_instance == instances:
            notice_once(
                f"{path}: a single instance in each of {instances} images; if there are more, "
                "number them 1, 2, … in the instance label maps"
            )
        if {"classes", "instances"} <= {*kept} and self.contradicting:
            notice_once(
                f"{path}: class and instance label maps contradict each other in "
                f"{self.contradicting} of {total} images: what is object in one is not in the other"
            )
        if self.misplaced_boxes:
            notice_once(
                f"{path}: in {self.misplaced_boxes} of {total} images no box fits an object of the "
                "instance label maps (IoU > 0.5); boxes are in px of the photograph"
            )


def allowed_metrics(truths: Sequence[GroundTruth]) -> set[tuple[str, str]]:
    """Protocols and metrics that an image's kinds of labels allow."""
    allowed: set[tuple[str, str]] = set()
    for truth in truths:
        one_slot = np.zeros(truth.regions.shape or (1, 1), dtype=np.uint8)
        allowed |= set(image_metrics(one_slot, truth))
    return allowed


def not_allowed(
    protocols: Sequence[str], allowed: Collection[tuple[str, str]]
) -> dict[str, list[str]]:
    """By protocol the metrics that labels do not allow; an empty list is all of them."""
    left_out = {}
    for protocol in protocols:
        missing = [name for name in PROTOCOLS[protocol] if (protocol, name) not in allowed]
        if missing:
            left_out[protocol] = missing if len(missing) < len(PROTOCOLS[protocol]) else []
    return left_out


def _left_out(left_out: dict[str, list[str]]) -> str:
    """In words.

    >>> _left_out({"dinosaur": [], "spot": ["fg_ari", "mbo_i"]})
    'protocol dinosaur left out, without FG-ARI, mBO^i of spot'
    """
    whole = [protocol for protocol, names in left_out.items() if not names]
    parts = [
        f"{', '.join(METRICS.get(name, name) for name in names)} of {protocol}"
        for protocol, names in left_out.items()
        if names
    ]
    said = []
    if whole:
        listed = " and ".join(filter(None, [", ".join(whole[:-1]), whole[-1]]))
        said.append(f"protocol{'s' * (len(whole) > 1)} {listed} left out")
    if parts:
        said.append("without " + " and ".join(parts))
    return ", ".join(said)


def _content(labels: Array) -> str:
    """What the regions (G,) of a label map are: objects, void objects, background, or void."""
    void = labels == VOID
    if void.all():
        return "void"
    if (labels[~void] > 0).any():
        return "objects"
    return "void objects" if void.any() else "background"


def _num_objects(labels: Array) -> int:
    """The objects among the regions (G,) of a label map."""
    return len(np.unique(labels[(labels > 0) & (labels != VOID)]))


def _misplaced(annotated: Array, truth: GroundTruth) -> bool:
    """Whether none of an image's boxes (M, 4) is that of an object of its instance label map."""
    instances = truth.region_instances.copy()
    instances[instances == VOID] = 0
    objects = boxes(instances[truth.regions])
    ious = box_ious(annotated, objects)
    return bool(ious.size and ious.max() <= ALIKE)


def _contradict(classes: Array, instances: Array, sizes: Array) -> bool:
    """Whether regions (G,) that are object in one kind of label maps mostly are not in the other.

    Where one is void there is nothing to compare.
    """
    valid = (classes != VOID) & (instances != VOID)
    one, other = (classes > 0) & valid, (instances > 0) & valid
    both, either = sizes[one & other].sum(), sizes[one | other].sum()
    return bool(both < ALIKE * either)
