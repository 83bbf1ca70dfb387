"""How EXIF turns a photograph upright, and what was drawn on its stored pixels with it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmqsa.progress import notice

Size = tuple[int, int]  # width and height, px
ORIENTATION = 274  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,  # to the left: a quarter turn to the right
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the tag's value; 1 is upright


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1 where it has none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except OSError:  # of a PNG all pixels are read, for EXIF data may come last
        raise
    except Exception:  # damaged EXIF data are no reason to lose a photograph
        return 1
    return value if value in TURNS else 1


@dataclass(frozen=True)
class Upright:
    """A photograph's size when it is upright, and how EXIF turns the stored pixels to it.

    A label map, boxes or a prediction whose size is that of the stored pixels, and not of the
    upright photograph, was drawn before a quarter turn, and is turned as well.

    >>> photograph = Upright((90, 120), orientation=6)  # stored as 120 x 90 px
    >>> photograph.is_stored((120, 90)), photograph.is_stored((90, 120))
    (True, False)
    >>> photograph.labels(np.arange(6, dtype=np.uint8).reshape(2, 3))
    array([[3, 0],
           [4, 1],
           [5, 2]], dtype=uint8)
    >>> photograph.boxes(np.array([[0, 0, 120, 30]]), (120, 90))  # what is above goes to the right
    array([[ 60,   0,  90, 120]])
    """

    size: Size
    orientation: int = 1

    @property
    def quarter(self) -> bool:
        """Whether width and height change places."""
        return self.orientation > 4

    @property
    def stored(self) -> Size:
        """The size of the stored pixels."""
        return self.size[::-1] if self.quarter else self.size

    @property
    def told(self) -> bool:
        """Whether a size tells what is drawn on the stored pixels from what is upright."""
        return self.orientation == 1 or self.stored != self.size

    def is_stored(self, size: object) -> bool:
        """Whether something of ``size`` is drawn on the stored pixels, as its size tells."""
        return self.quarter and size == self.stored != self.size

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """A map (h, w) of the stored pixels, of any scale, made upright after a quarter turn."""
        return np.array(Image.fromarray(labels).transpose(TURNS[self.orientation]))

    def boxes(self, boxes: np.ndarray, size: Size) -> np.ndarray:
        """Boxes (M, 4) in px of a map of ``size`` that is drawn on the stored pixels, as above."""
        width, height = size
        x, y = boxes[:, 0::2], boxes[:, 1::2]  # (M, 2): where they begin and end
        columns = height - y[:, ::-1] if self.orientation in (6, 7) else y
        rows = width - x[:, ::-1] if self.orientation in (7, 8) else x
        return np.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], axis=1)


def notice_untold(
    ids: Iterable[str], num_images: int, what: str = "labels and predictions"
) -> None:
    """One notice that counts photographs whose turn no size tells; none where there are none."""
    untold = list(ids)
    if untold:
        notice(
            f"EXIF: for {len(untold)} of {num_images} photographs, such as {untold[0]}, no size "
            f"tells whether {what} were drawn before or after the turn: they count as drawn on the "
            "upright photograph. If they were drawn on the stored pixels, take the EXIF "
            "orientation out of these files (`exiftool -Orientation= FILE`) and leave the pixels"
        )
