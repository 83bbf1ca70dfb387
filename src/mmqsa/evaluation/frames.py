"""What part of its photograph a prediction covers, and its way into the labels' geometry."""

from dataclasses import dataclass

import numpy as np

from mmqsa.config.choices import Frame
from mmqsa.data.geometry import Geometry
from mmqsa.data.upright import Upright
from mmqsa.errors import InputError
from mmqsa.evaluation.prediction_files import Prediction, Size

__all__ = ["Frame", "Placement"]


@dataclass(frozen=True)
class Placement:
    """Puts predictions of one frame onto labels of one geometry, by nearest neighbour.

    - ``photograph``: the map covers the whole photograph, with its aspect ratio.
    - ``square``: it covers the central square of the photograph's shorter side.
    - ``squashed``: it covers the whole photograph, with another aspect ratio.

    The map may have any size. One that has the size, or in the frame ``photograph`` the aspect
    ratio, of the stored pixels and not of the upright photograph is turned with it.
    ``sizes_known``: whether photographs' sizes are; a feature cache does not hold them.
    """

    frame: Frame
    geometry: Geometry
    sizes_known: bool = True

    def __post_init__(self) -> None:
        """Raises InputError where the frame does not cover what the labels do."""
        kind = self.geometry.kind
        if self.frame == "square" and kind != "crop":
            raise InputError(
                f"--frame square: covers the central square alone, and labels of --geometry {kind} "
                "cover the whole photograph; score by --geometry crop"
            )
        if self.frame == "squashed" and kind == "crop" and not self.sizes_known:
            raise InputError(
                "--frame squashed: a feature cache does not say the photographs' aspect ratios; "
                "give --data in place of --features"
            )

    def __call__(self, found: Prediction, upright: Upright | None, about: str) -> Prediction:
        """A prediction and its boxes, in px of the labels. Raises InputError; see `check`."""
        if upright is not None:
            found = self._turned(found, upright)
        height, width = found.labels.shape
        photograph = upright.size if upright else None
        if photograph is not None:
            self.check((width, height), photograph, about)
        elif self.frame == "square" and width != height:
            raise InputError(f"{about}: {width}x{height} px, which is no square")
        geometry, size = self.geometry, photograph or (width, height)
        if self.frame == "square":  # which is all that the labels cover
            geometry, size = Geometry("squash", geometry.side), (width, height)
        labels = geometry.labels(found.labels, size)
        if found.boxes is None:
            return Prediction(labels)
        scale = np.array([size[0] / width, size[1] / height] * 2)
        boxes = geometry.boxes(found.boxes * scale, *size)
        return Prediction(labels, boxes.astype(np.float64))

    def _fits(self, found: Prediction, size: Size) -> bool:
        """Whether a prediction could be of a photograph of ``size``, by its own size."""
        height, width = found.labels.shape
        if self.frame == "photograph":
            return _same_aspect((width, height), size)
        return (width, height) == size

    def _turned(self, found: Prediction, photograph: Upright) -> Prediction:
        """A prediction, turned if its size tells that it was made on the stored pixels."""
        if not (photograph.quarter and self._fits(found, photograph.stored)):
            return found
        if self._fits(found, photograph.size):
            return found
        height, width = found.labels.shape
        boxes = None if found.boxes is None else photograph.boxes(found.boxes, (width, height))
        return Prediction(photograph.labels(found.labels), boxes)

    def told(self, found: Prediction, photograph: Upright) -> bool:
        """Whether its size tells if a prediction was made on the stored pixels.

        Photographs for which no label map tells it either are counted with the labels.
        """
        if not photograph.quarter or not photograph.told:
            return True
        fits = [self._fits(found, size) for size in (photograph.size, photograph.stored)]
        return found.sized and sum(fits) == 1

    def check(self, size: Size, photograph: Size, about: str) -> None:
        """Raises InputError on a map of ``size`` whose aspect ratio contradicts the frame."""
        square, whole = size[0] == size[1], _same_aspect(size, photograph)
        fits = {"photograph": whole, "square": square, "squashed": True}[self.frame]
        if fits:
            return
        its = f"{about}: {size[0]}x{size[1]} px"
        of = f"its photograph has {photograph[0]}x{photograph[1]}"
        if self.frame == "square":
            advice = "; use --frame photograph" if whole else ""
            raise InputError(f"{its}, which is no square ({of}){advice}")
        if _same_aspect(size, photograph[::-1]):
            raise InputError(
                f"{its}, but {of}: it lies on its side; turn it by 90 degrees (--data in place of "
                "--features knows how EXIF turns a photograph)"
            )
        central = "square if it covers the central square, " if square else ""
        raise InputError(
            f"{its}, but {of}: another aspect ratio; use --frame {central}squashed if it covers "
            "the whole photograph"
        )


def _same_aspect(size: Size, photograph: Size) -> bool:
    """Whether one scale, to a pixel, makes the photograph's width and height those of ``size``.

    A pixel more or less, as methods round to whole patches.

    >>> _same_aspect((31, 23), (500, 375)), _same_aspect((320, 320), (500, 375))
    (True, False)
    """
    low = max((length - 1) / full for length, full in zip(size, photograph, strict=True))
    high = min((length + 1) / full for length, full in zip(size, photograph, strict=True))
    return low <= high
