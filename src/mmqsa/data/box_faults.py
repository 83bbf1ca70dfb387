"""Annotated boxes that do not lie in their photograph, counted as they are read."""

from pathlib import Path

import numpy as np

from mmqsa.progress import notice_once

__all__ = ["BoxFaults"]

TOLERANCE = 2  # px: tools count pixels from 0 or from 1, and round


class BoxFaults:
    """Images with boxes outside of the photograph, or of less than a pixel.

    >>> faults = BoxFaults()
    >>> faults.look("one", np.array([[10.0, 10, 500, 60]]), (100, 80))
    >>> faults.look("two", np.array([[0.1, 0.2, 0.5, 0.9]]), (100, 80))
    >>> faults.outside, faults.too_small
    ({'one'}, {'two'})
    """

    def __init__(self) -> None:
        self.outside: set[str] = set()
        self.too_small: set[str] = set()
        self._with_boxes: set[str] = set()

    def look(self, image_id: str, boxes: np.ndarray, size: tuple[int, int]) -> None:
        """At boxes (M, 4), x0 y0 x1 y1 in px of an image of ``size`` (w, h), before any is cut."""
        if not len(boxes):
            return
        self._with_boxes.add(image_id)
        inside = boxes.clip(0, [*size] * 2)
        if (np.abs(boxes - inside) > TOLERANCE).any():
            self.outside.add(image_id)
        elif ((inside[:, 2:] - inside[:, :2]) < 1).any():
            self.too_small.add(image_id)

    def say(self, origin: Path) -> None:
        """Notices that count them."""
        number = len(self._with_boxes)
        if self.outside:
            notice_once(
                f"{origin}: boxes outside of the photograph in {len(self.outside)} of {number} "
                f"images that have any, such as {min(self.outside)}; boxes are in px of the "
                "photograph, and what lies outside is cut off"
            )
        if self.too_small:
            every = len(self.too_small) == number
            hint = " (are these from 0 to 1?)" if every else ""
            notice_once(
                f"{origin}: boxes of less than a pixel in {len(self.too_small)} of {number} images "
                f"that have any, such as {min(self.too_small)}; boxes are in px of the photograph"
                f"{hint}"
            )
