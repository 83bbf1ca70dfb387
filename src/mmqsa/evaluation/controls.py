"""Predictions that look at no image: what a metric gives for nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmqsa.data.geometry import VOID
from mmqsa.evaluation.metrics import box_ious, boxes
from mmqsa.evaluation.scoring import Scorer
from mmqsa.features.cache import FeatureCache, check_attributes

GRID = 16  # fitted boxes have their edges on sixteenths of the side


@dataclass(frozen=True)
class Control:
    """One (S, S) uint8 label map for every image, and its boxes where they are not its slots'."""

    labels: np.ndarray
    boxes: np.ndarray | None = None


def fixed_controls(side: int) -> dict[str, Control]:
    """Controls that nobody fitted to anything."""
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


def random_slots(side: int, slots: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels go to the nearest of K points drawn evenly: (S, S) uint8."""
    points = rng.uniform(0, side, (slots, 2))
    squares = (np.arange(side)[:, None] + 0.5 - points[:, :, None].transpose(1, 2, 0)) ** 2
    return (squares[0][:, None] + squares[1][None]).argmin(axis=2).astype(np.uint8)


def fitted_controls(truth: list[np.ndarray], side: int, slots: int) -> dict[str, Control]:
    """Boxes chosen on the training images' boxes, each (M, 4), to be held out on other images.

    ``best fixed box`` has IoU > 0.5 with some object's box in the most training images;
    ``K fixed boxes`` adds, box by box, the one that reaches the most images not yet reached. Among
    equals the one with the greater IoU is taken.
    """
    candidates = _candidates(side)
    best = np.stack([box_ious(candidates, own).max(axis=1) for own in truth], axis=1)  # (C, N)
    chosen, left = [], np.ones(len(truth), dtype=bool)
    for _ in range(slots):
        gained = (best > 0.5) & left
        chosen.append(int((gained.sum(axis=1) + (best * left).mean(axis=1)).argmax()))
        left &= ~gained[chosen[-1]]
    found = candidates[chosen]
    return {
        "best fixed box": Control(_painted(found[:1], side), found[:1]),
        f"{slots} fixed boxes": Control(_painted(found, side), found),
    }


def _candidates(side: int) -> np.ndarray:
    """Every box of at least 4 cells a side with its edges on the grid: (N, 4) px."""
    edges = [(low, high) for low in range(GRID) for high in range(low + 4, GRID + 1)]
    cells = [(x0, y0, x1, y1) for x0, x1 in edges for y0, y1 in edges]
    return np.array(cells, dtype=np.float64) * side / GRID


def _painted(found: np.ndarray, side: int) -> np.ndarray:
    """Boxes as slots 1.. of one label map, smaller ones over larger ones; 0 elsewhere."""
    labels = np.zeros((side, side), dtype=np.uint8)
    areas = (found[:, 2:] - found[:, :2]).prod(axis=1)
    for index in np.argsort(-areas, kind="stable"):
        x0, y0, x1, y1 = found[index].round().astype(int)
        labels[y0:y1, x0:x1] = index + 1
    return labels


MOST = 6000  # images to fit boxes on, evenly from the whole: each candidate is held against each


def object_boxes(cache: FeatureCache) -> list[np.ndarray]:
    """The boxes (M, 4) of every image that has any: of its classes, or annotated if squashed."""
    if cache.attributes["geometry"] == "squash":
        found = cache.boxes or []
    elif cache.classes is None:
        found = []
    else:
        maps = (cache.classes[index] for index in range(len(cache.ids)))
        found = [boxes(np.where(labels == VOID, 0, labels)) for labels in maps]
    return [own for own in found if len(own)]


def score_controls(
    cache: FeatureCache,
    out: Path,
    train: FeatureCache | None = None,
    slots: int = 7,
    seeds: Sequence[int] = (0,),
) -> Path:
    """Score every control on the cache's labels; returns the metrics file in ``out``.

    With ``train``, fixed boxes are fitted to that cache's labels as well, if it has any. Random
    slots are drawn anew for each image and each of ``seeds``.
    """
    scorer, everything = Scorer(cache), range(len(cache.ids))
    found = fixed_controls(cache.side)
    if train is not None:
        wanted = {name: cache.attributes[name] for name in ("geometry", "image_size")}
        check_attributes(train.attributes, wanted, train.path, wanted_by=str(cache.path))
        if labelled := object_boxes(train):
            evenly = labelled[:: -(-len(labelled) // MOST)]
            found |= fitted_controls(evenly, cache.side, slots)
    for name, control in found.items():
        maps = np.broadcast_to(control.labels, (len(everything), *control.labels.shape))
        own = None if control.boxes is None else [control.boxes] * len(everything)
        number = int(control.labels.max()) + 1
        names = {"name": name, "slots": number, "eval_seed": seeds[0]}
        scorer.add(everything, maps, boxes=own, with_objects=True, **names)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for index in everything:
            drawn = random_slots(cache.side, slots, rng)[None]
            names = {"name": f"random slots, K = {slots}", "slots": slots, "eval_seed": seed}
            scorer.add([index], drawn, with_objects=seed == seeds[0], **names)
    return scorer.write(out / f"{cache.name}-controls.csv", ["name", "slots", "eval_seed"])
