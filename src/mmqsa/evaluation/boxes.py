"""Boxes of label maps: of objects, of slots, and the one box an image that is read out of slots.

A box is x0 y0 x1 y1 in px, x1 and y1 exclusive.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as connected_components

__all__ = ["box_ious", "boxes", "slot_boxes"]

Array = NDArray[Any]
MAX_BITS = 64  # of an integer


def boxes(labels: Array) -> Array:
    """The tight box of every label but 0: (M, 4) x0 y0 x1 y1 in px, x1 and y1 exclusive.

    >>> boxes(np.array([[0, 1, 1, 0], [2, 1, 1, 0]]))
    array([[1., 0., 3., 2.],
           [0., 1., 1., 2.]])
    """
    windows = [window for window in find_objects(labels) if window is not None]
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in windows]
    return np.array(corners, dtype=np.float64).reshape(-1, 4)


def box_ious(first: Array, second: Array) -> Array:
    """Boxes (M, 4) and (N, 4) -> IoU (M, N).

    >>> others = np.array([[0.0, 0, 4, 2], [2, 0, 6, 4], [5, 5, 6, 6]])
    >>> box_ious(np.array([[0.0, 0, 4, 4]]), others).round(2)
    array([[0.5 , 0.33, 0.  ]])
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = (high - low).clip(0).prod(axis=2)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (first, second)]
    ious: Array = overlap / np.maximum(areas[0][:, None] + areas[1][None] - overlap, 1e-9)
    return ious


def slot_boxes(prediction: Array, valid: Array | None, areas: Array) -> Array:
    """The tight boxes (M, 4) of the M slots that have any valid pixel, the one box first.

    The one box is that of the largest slot, except the slot that covers most of the image's border:
    a rule that needs no label. The others follow in the slots' order. ``valid`` (S, S) is None for
    all pixels; ``areas`` (K,) are the slots' valid pixels.

    >>> labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 2], [0, 0, 0, 0]], dtype=np.uint8)
    >>> slot_boxes(labels, None, np.bincount(labels.ravel()))  # slot 1, then 0 and 2
    array([[1., 1., 3., 3.],
           [0., 0., 4., 4.],
           [3., 2., 4., 3.]])
    """
    first = one_slot(border_counts(prediction, len(areas)), areas)
    order = np.r_[first, np.delete(np.arange(len(areas)), first)]
    return slot_extents(prediction, valid)[order][areas[order] > 0]


def slot_extents(prediction: Array, valid: Array | None) -> Array:
    """The tight box of each slot's valid pixels: (K, 4) px; meaningless for a slot without any.

    One bit per slot, so that a single pass along each axis gives all slots' extents.
    """
    num_slots = int(prediction.max()) + 1
    if num_slots > MAX_BITS:
        return _many_extents(prediction, valid, num_slots)
    kind = np.min_scalar_type((1 << num_slots) - 1)
    bits = np.left_shift(kind.type(1), prediction, dtype=kind)
    if valid is not None:
        bits *= valid
    (x0, x1), (y0, y1) = (_extent(bits, axis, num_slots) for axis in (0, 1))
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float64)


def _many_extents(prediction: Array, valid: Array | None, num_slots: int) -> Array:
    """The same for more slots than an integer has bits."""
    numbered = prediction.astype(np.int32) + 1
    windows = find_objects(numbered if valid is None else numbered * valid, num_slots)
    nothing = (slice(0, 0), slice(0, 0))
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in (w or nothing for w in windows)]
    return np.array(corners, dtype=np.float64)


def largest_part(inside: Array, valid: Array | None, box: Array) -> Array:
    """The tight box (4,) of the largest connected part of the valid pixels inside a box (4,)."""
    x0, y0, x1, y1 = box.astype(int)
    pixels = inside[y0:y1, x0:x1]
    if valid is not None:
        pixels = pixels & valid[y0:y1, x0:x1]
    parts, count = connected_components(pixels)
    if count < 2:
        return box
    largest = parts == 1 + np.bincount(parts[pixels])[1:].argmax()
    (y,), (x,) = (np.nonzero(largest.any(axis=axis)) for axis in (1, 0))
    return np.array([x[0] + x0, y[0] + y0, x[-1] + 1 + x0, y[-1] + 1 + y0], dtype=np.float64)


def border_counts(prediction: Array, num_slots: int) -> Array:
    """Pixels of the image's border that each slot has (K,)."""
    border = np.concatenate([prediction[[0, -1]].ravel(), prediction[1:-1, [0, -1]].ravel()])
    return np.bincount(border, minlength=num_slots)


def one_slot(border: Array, areas: Array) -> int:
    """Slots' pixels (K,) of the border, and of all -> the largest but the one with most border."""
    others = (areas > 0).sum() > 1
    inner = np.where((np.arange(len(areas)) == border.argmax()) & others, 0, areas)
    return int(inner.argmax())


def _extent(bits: Array, axis: int, num_slots: int) -> tuple[Array, Array]:
    """First and one past the last position of every slot once ``axis`` is reduced."""
    along = np.bitwise_or.reduce(bits, axis=axis)
    shifts = np.arange(num_slots, dtype=bits.dtype)
    present = (along[None] >> shifts[:, None]) & bits.dtype.type(1)  # (K, S)
    return present.argmax(axis=1), present.shape[1] - present[:, ::-1].argmax(axis=1)
