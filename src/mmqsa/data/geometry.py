"""One geometry for image, label maps and boxes, which keeps them aligned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

__all__ = ["VOID", "Geometry", "mean_colour"]

VOID = 255  # the label of pixels that no metric counts


@dataclass(frozen=True)
class Geometry:
    """How a photograph of any size becomes an S x S square, or whole patches.

    - ``crop``: shorter side to S, then the central square (DINOSAUR, SPOT).
    - ``squash``: both sides to S; the whole image is seen, its aspect ratio changes.
    - ``released``: what the paper's released code does to its test set. The image is its central
      square at native scale, as torchvision's CenterCrop takes it, padded with ``fill`` where it is
      smaller; labels and boxes are squashed. They are misaligned: this measures by how much.
    - ``native``: labels and boxes stay as they are, of another size for each photograph. The image
      is padded with ``fill`` on the right and at the bottom to a multiple of ``side``, which is a
      patch of the backbone, as LOST and TokenCut do. Nothing is resized or cut.

    ``fill`` (R, G, B) in 0..255 is the backbone's mean colour: the released code pads with zeros
    after it has normalised.

    >>> from PIL import Image
    >>> photograph, boxes = Image.new("RGB", (200, 100)), np.array([[60.0, 20, 180, 80]])
    >>> crop = Geometry("crop", 50)
    >>> crop.image(photograph).shape, crop.labels(np.zeros((100, 200), np.uint8)).shape
    ((50, 50, 3), (50, 50))
    >>> crop.boxes(boxes, *photograph.size)  # the right part lies outside of the square
    array([[ 5., 10., 50., 40.]], dtype=float32)
    >>> Geometry("squash", 50).boxes(boxes, *photograph.size)
    array([[15., 10., 45., 40.]], dtype=float32)
    >>> Geometry("native", 16).image(photograph).shape  # 7 x 13 patches
    (112, 208, 3)
    """

    kind: Literal["crop", "squash", "released", "native"]
    side: int
    fill: tuple[int, int, int] = (0, 0, 0)

    def _frame(self, width: int, height: int, of_labels: bool) -> tuple[int, int, int, int]:
        """Size after the resize, and the square's left and top edge in it (px, may be < 0)."""
        if self.kind == "native":
            return width, height, 0, 0
        if self.kind == "squash" or (self.kind == "released" and of_labels):
            return self.side, self.side, 0, 0
        if self.kind == "crop":
            scale = self.side / min(width, height)
            width = max(self.side, round(width * scale))
            height = max(self.side, round(height * scale))
            return width, height, (width - self.side) // 2, (height - self.side) // 2
        return width, height, self._native_margin(width), self._native_margin(height)

    def _native_margin(self, length: int) -> int:
        """Where the square begins: torchvision rounds half a pixel to even, and pads right more."""
        margin = length - self.side
        return round(margin / 2) if margin > 0 else -(-margin // 2)

    def image(self, image: Image.Image) -> np.ndarray:
        """RGB image (any size) -> (S, S, 3) uint8; bicubic with antialiasing.

        In ``native`` (h, w, 3), whole patches.
        """
        width, height, left, top = self._frame(*image.size, of_labels=False)
        image = image if image.mode == "RGB" else image.convert("RGB")
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        size = (self.side, self.side)
        if self.kind == "native":
            size = (-width % self.side + width, -height % self.side + height)
        canvas = Image.new("RGB", size, self.fill)
        canvas.paste(resized, (-left, -top))
        return np.asarray(canvas, dtype=np.uint8)

    def labels(self, labels: np.ndarray, photograph: tuple[int, int] | None = None) -> np.ndarray:
        """Label map (h, w) uint8 -> (S, S) uint8, or as the photograph in ``native``; nearest.

        ``photograph`` is the size (w, h) of the one that a map of another size covers.
        """
        width, height = photograph or labels.shape[::-1]
        width, height, left, top = self._frame(width, height, of_labels=True)
        resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        rows, columns = self._shape(width, height)
        return np.asarray(resized)[top : top + rows, left : left + columns].copy()

    def _shape(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of what becomes of a photograph."""
        return (height, width) if self.kind == "native" else (self.side, self.side)

    def boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Boxes (M, 4) as x0 y0 x1 y1 in px of the photograph -> (M', 4) float32 in the square.

        In ``native`` they are in px of the photograph. Boxes are clipped to the square; those that
        fall outside it are dropped.
        """
        new_width, new_height, left, top = self._frame(width, height, of_labels=True)
        scale = np.array([new_width / width, new_height / height] * 2)
        moved = boxes.reshape(-1, 4) * scale - np.array([left, top, left, top])
        rows, columns = self._shape(width, height)
        clipped = moved.clip(0, [columns, rows, columns, rows])
        inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        return clipped[inside].astype(np.float32)


def mean_colour(mean: Sequence[float]) -> tuple[int, int, int]:
    """The RGB mean of a normalisation, in 0..1 -> the colour that it maps to zero, in 0..255."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
