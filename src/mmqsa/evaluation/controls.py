"""Controls: predictions that look at no image, to show what a metric gives to anyone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmqsa.data.geometry import VOID, Geometry
from mmqsa.evaluation.boxes import box_ious, boxes
from mmqsa.evaluation.labelled_images import LabelledImages
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.attributes import check_attributes
from mmqsa.progress import notice_once

__all__ = ["Control", "fitted_controls", "fixed_controls", "random_slots"]

GRID = 16  # fitted boxes have their edges on sixteenths of the side
MAX_IMAGES = 6000  # to fit boxes on, evenly from the whole: each candidate is compared with each


@dataclass(frozen=True)
class Control:
    """One (S, S) uint8 label map for every image, and its boxes where they are not its slots'.

    >>> Control(np.zeros((4, 4), np.uint8)).boxes is None
    True
    """

    labels: np.ndarray
    boxes: np.ndarray | None = None


def fixed_controls(side: int) -> dict[str, Control]:
    """Controls that are fitted to nothing.

    >>> controls = fixed_controls(8)
    >>> list(controls)
    ['one slot', 'centre square', '2x2 blocks', '2x3 blocks', '3x3 blocks']
    >>> controls["centre square"].labels.mean()  # 36 of 64 pixels
    np.float64(0.5625)
    """
    one = np.zeros((side, side), dtype=np.uint8)
    centre = one.copy()
    margin = side // 8  # a square of 3/4 of the side: 240 of 320 px
    centre[margin : side - margin, margin : side - margin] = 1
    return {
        "one slot": Control(one),
        "centre square": Control(centre),
        "2x2 blocks": Control(_blocks(side, 2, 2)),
        "2x3 blocks": Control(_blocks(side, 2, 3)),
        "3x3 blocks": Control(_blocks(side, 3, 3)),
    }


def _blocks(side: int, rows: int, columns: int) -> np.ndarray:
    y, x = np.arange(side) * rows // side, np.arange(side) * columns // side
    return (y[:, None] * columns + x[None]).astype(np.uint8)


def random_slots(side: int, num_slots: int, rng: np.random.Generator) -> np.ndarray:
    """Each pixel's nearest of K points that are drawn uniformly: (S, S) uint8.

    >>> random_slots(6, num_slots=3, rng=np.random.default_rng(0))
    array([[1, 1, 1, 1, 0, 2],
           [1, 1, 0, 0, 2, 2],
           [0, 0, 0, 0, 2, 2],
           [0, 0, 0, 0, 2, 2],
           [0, 0, 0, 0, 2, 2],
           [0, 0, 0, 2, 2, 2]], dtype=uint8)
    """
    points = rng.uniform(0, side, (num_slots, 2))
    squares = (np.arange(side)[:, None] + 0.5 - points[:, :, None].transpose(1, 2, 0)) ** 2
    return (squares[0][:, None] + squares[1][None]).argmin(axis=2).astype(np.uint8)


def fitted_controls(truth: list[np.ndarray], side: int, num_slots: int) -> dict[str, Control]:
    """Boxes chosen on the training images' boxes, each (M, 4), to be tested on other images.

    ``best fixed box`` has IoU > 0.5 with some object's box in the most training images;
    ``K fixed boxes`` adds, box by box, the one that reaches the most images not yet reached. Among
    equals the one with the greater IoU is taken.

    >>> truth = [np.array([box]) for box in ([2.0, 2, 8, 8], [3.0, 3, 9, 9], [10.0, 0, 16, 6])]
    >>> controls = fitted_controls(truth, side=16, num_slots=2)
    >>> controls["best fixed box"].boxes, list(controls)
    (array([[2., 2., 8., 8.]]), ['best fixed box', '2 fixed boxes'])
    """
    candidates = _candidates(side)
    best = np.stack([box_ious(candidates, true).max(axis=1) for true in truth], axis=1)  # (C, N)
    picked: list[int] = []
    unreached = np.ones(len(truth), dtype=bool)
    for _ in range(num_slots):
        gained = (best > 0.5) & unreached
        picked.append(int((gained.sum(axis=1) + (best * unreached).mean(axis=1)).argmax()))
        unreached &= ~gained[picked[-1]]
    fitted = candidates[picked]
    return {
        "best fixed box": Control(_painted(fitted[:1], side), fitted[:1]),
        f"{num_slots} fixed boxes": Control(_painted(fitted, side), fitted),
    }


def _candidates(side: int) -> np.ndarray:
    """Every box of at least 4 cells a side with its edges on the grid: (C, 4) px."""
    edges = [(low, high) for low in range(GRID) for high in range(low + 4, GRID + 1)]
    cells = [(x0, y0, x1, y1) for x0, x1 in edges for y0, y1 in edges]
    return np.array(cells, dtype=np.float64) * side / GRID


def _painted(corners: np.ndarray, side: int) -> np.ndarray:
    """Boxes (M, 4) as slots 1.. of one label map, smaller ones over larger ones; 0 elsewhere."""
    labels = np.zeros((side, side), dtype=np.uint8)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    for index in np.argsort(-areas, kind="stable"):
        x0, y0, x1, y1 = corners[index].round().astype(int)
        labels[y0:y1, x0:x1] = index + 1
    return labels


def object_boxes(labels: LabelledImages) -> list[np.ndarray]:
    """The boxes (M, 4) of every image that has any: of its classes, or annotated if all is seen.

    They are in px of the square, where an image is not squashed as if it were.
    """
    whole = labels.attributes["geometry"] in ("squash", "native")
    maps, images = labels.classes, range(len(labels.ids))
    if whole and (annotated := labels.boxes) is not None:
        all_boxes = [annotated[index] / _stretch(labels, index) for index in images]
    elif maps is None:
        all_boxes = []
    else:
        without_void = (np.where(maps[index] == VOID, 0, maps[index]) for index in images)
        all_boxes = [boxes(of_image) for of_image in without_void]
    return [of_image for of_image in all_boxes if len(of_image)]


@dataclass(frozen=True)
class ControlPrediction:
    """What a control says of some images: their label maps (B, S, S), and boxes if not of slots."""

    images: slice
    name: str
    labels: np.ndarray
    num_slots: int
    seed: int
    boxes: np.ndarray | None = None


def control_predictions(
    images: LabelledImages, train: LabelledImages | None, num_slots: int, seeds: Sequence[int]
) -> Iterator[ControlPrediction]:
    """Every control on a set of images.

    With ``train``, fixed boxes are fitted to those labels as well, if there are any; those of
    ``native`` images to squashed ones, or as if these were. Random slots are drawn anew for each
    image and each of ``seeds``.
    """
    num_images, controls = len(images.ids), fixed_controls(images.side)
    if train is not None:
        expected = {name: images.attributes[name] for name in ("geometry", "image_size")}
        if expected["geometry"] == "native" != train.attributes["geometry"]:
            expected["geometry"] = "squash"
        check_attributes(train.attributes, expected, train.path, reader=str(images.path))
        if labelled := object_boxes(train):
            evenly = labelled[:: -(-len(labelled) // MAX_IMAGES)]
            controls |= fitted_controls(evenly, images.side, num_slots)
        else:
            notice_once(f"{train.path}: no object in any image to fit fixed boxes to; without them")
    for name, control in controls.items():
        labels = np.broadcast_to(control.labels, (num_images, *control.labels.shape))
        slots, everywhere = int(control.labels.max()) + 1, slice(0, num_images)
        yield ControlPrediction(everywhere, name, labels, slots, seeds[0], control.boxes)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for index in range(num_images):
            drawn, name = (
                random_slots(images.side, num_slots, rng),
                f"random slots, K = {num_slots}",
            )
            yield ControlPrediction(slice(index, index + 1), name, drawn[None], num_slots, seed)


def score_controls(
    images: LabelledImages,
    out: Path,
    train: LabelledImages | None = None,
    num_slots: int = 7,
    seeds: Sequence[int] = (0,),
) -> Path:
    """Score every control on the labels of ``images``; returns the metrics file in ``out``.

    Who calls it has that file ``claimed``.
    """
    scorer = Scorer(images, single_boxes=True)
    for prediction in control_predictions(images, train, num_slots, seeds):
        for index, labels in zip(
            range(len(images.ids))[prediction.images], prediction.labels, strict=True
        ):
            placed, its_boxes = _placed(images, index, labels, prediction.boxes)
            scorer.add(
                [index],
                [placed],
                boxes=[its_boxes],
                with_objects=prediction.seed == seeds[0],
                name=prediction.name,
                num_slots=prediction.num_slots,
                eval_seed=prediction.seed,
            )
    return scorer.write(out / f"{images.name}-controls.csv", ["name", "num_slots", "eval_seed"])


def _placed(
    images: LabelledImages, index: int, labels: np.ndarray, of_square: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A control (S, S) and its boxes on an image: stretched over it where that is no square."""
    if images.attributes["geometry"] != "native":
        return labels, of_square
    placed = Geometry("native", images.side).labels(labels, images.size(index))
    return placed, None if of_square is None else of_square * _stretch(images, index)


def _stretch(images: LabelledImages, index: int) -> np.ndarray:
    """What makes boxes (M, 4) of the square those of an image, which may have its own size."""
    if images.attributes["geometry"] != "native":
        return np.ones(4)
    return np.array([*images.size(index)] * 2) / images.side
