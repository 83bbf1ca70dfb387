"""The shape of an object in COCO's json: polygons, or run lengths of its mask."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from mmqsa.config.files import quoted
from mmqsa.data.photograph import MAX_PIXELS
from mmqsa.errors import InputError

__all__ = ["is_absent", "mask_of"]

MAX_OUTLINE = 1_000_000  # px, of an object's polygons; pycocotools takes 100 bytes a px
MAX_POLYGONS = 10_000  # of an object; pycocotools adds each to all before it
DAMAGE = (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError)


def is_absent(shape: Any) -> bool:
    """Whether a ``segmentation`` has no pixel: null, empty, points within a pixel, runs of nothing.

    >>> [is_absent(shape) for shape in (None, [], [[]], [[1, 1, 5, 1, 5, 5]])]
    [True, True, True, False]
    >>> is_absent([[0.1, 0.1, 0.4, 0.1, 0.4, 0.6]]), is_absent({"size": [2, 2], "counts": [4]})
    (True, True)
    """
    if shape is None or shape in ("", {}):
        return True
    try:
        if isinstance(shape, list):
            return all(
                max(along) - min(along) < 1
                for polygon in shape
                for along in (polygon[::2], polygon[1::2])
                if along
            )
        return not _runs(shape)[1::2].any()
    except (OverflowError, TypeError, ValueError):  # a damaged one is not absent
        return False


def mask_of(shape: Any, size: tuple[int, int], about: str) -> np.ndarray:
    """The mask (h, w) bool of a ``segmentation`` in px of an image of ``size`` (w, h).

    Raises InputError that begins with ``about``; pycocotools crashes on shapes that are not
    checked.
    """
    width, height = size
    try:
        if isinstance(shape, list):
            outlines = run_lengths.frPyObjects(_polygons(shape, size), height, width)
            return run_lengths.decode(run_lengths.merge(outlines)).astype(bool)
        runs = _runs(shape)
        if (runs < 0).any() or runs.sum() != width * height:
            raise ValueError("its run lengths do not add up to the photograph")
        inside = np.arange(len(runs)) % 2 == 1
        return np.repeat(inside, runs).reshape(width, height).T
    except DAMAGE as error:
        raise InputError(
            f"{about} has no readable shape: {error}; correct its segmentation, or take it out"
        ) from None


def _polygons(shape: list[Any], size: tuple[int, int]) -> list[list[float]]:
    """The polygons of a shape, each x1 y1 x2 y2 …, but for empty ones. Raises ValueError."""
    if any(isinstance(part, int | float) for part in shape):
        raise ValueError(
            "its segmentation is a single list of numbers, not a list of polygons, "
            "[[x1, y1, x2, y2, …]]"
        )
    polygons = [polygon for polygon in shape if polygon != []]
    if not polygons:
        raise ValueError("it has no polygon")
    if len(polygons) > MAX_POLYGONS:
        raise ValueError(f"it has {len(polygons):,} polygons, more than {MAX_POLYGONS:,}")
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise ValueError(f"a polygon is {quoted(polygon)}, not a list x1, y1, x2, y2, …")
        for value in polygon:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ValueError(
                    f"a polygon holds {quoted(value)}, which is no finite number; it is x1, y1, "
                    "x2, y2, …"
                )
        if len(polygon) < 6:
            raise ValueError(
                f"a polygon has {len(polygon)} numbers, and three points need 6, x1, y1, …"
            )
        if len(polygon) % 2:
            raise ValueError("a polygon has an odd number of coordinates")
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    if (np.abs(points) > 2 * np.array(size)).any():
        raise ValueError("a polygon leaves the photograph by far")
    if np.abs(np.diff(points, axis=0)).sum() > MAX_OUTLINE:
        raise ValueError(f"its outline is longer than {MAX_OUTLINE:,} px")
    return polygons


def _runs(shape: Any) -> np.ndarray:
    """The run lengths of a shape, compressed or not. Raises ValueError."""
    if not isinstance(shape, dict):
        raise ValueError(f"its segmentation is {quoted(shape)}, neither polygons nor run lengths")
    counts = shape.get("counts")
    if isinstance(counts, str):
        return _decoded(counts)
    whole = isinstance(counts, list) and all(
        type(count) is int and 0 <= count <= MAX_PIXELS for count in counts
    )
    if not whole:
        raise ValueError("its counts are neither text nor whole numbers from 0 on")
    return np.array(counts, dtype=np.int64)


def _decoded(counts: str) -> np.ndarray:
    """The run lengths in COCO's text: 5 bits a character, the lowest first; a 6th says go on.

    A run after the third is the difference to the one before the last. pycocotools reads beyond
    the end of a text that is cut, and leaves what its runs do not cover undefined.
    """
    codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not codes.size or codes[-1] & 32 or codes.min() < 0 or codes.max() > 63:
        raise ValueError("its run lengths are cut or damaged")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:  # 35 bits; a run has 32
        raise ValueError("a run length is too large")
    runs = np.add.reduceat((codes & 31) << 5 * places, starts)
    runs -= (codes[ends] & 16) << (5 * places[ends] + 1)  # the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
