"""One geometry for image, label maps and boxes, which keeps them aligned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

VOID = 255  # the label of pixels that no metric counts


@dataclass(frozen=True)
class Geometry:
    """How a photograph of any size becomes an S x S square.

    - ``crop``: shorter side to S, then the central square (DINOSAUR, SPOT).
    - ``squash``: both sides to S; the whole image is seen, its aspect ratio changes.
    - ``released``: what the paper's released code does to its test set. The image is its central
      square at native scale, as torchvision's CenterCrop takes it, padded with ``fill`` where it is
      smaller; labels and boxes are squashed. They are misaligned: this measures by how much.

    ``fill`` (R, G, B) in 0..255 is the backbone's mean colour: the released code pads with zeros
    after it has normalised.
    """

    kind: Literal["crop", "squash", "released"]
    side: int
    fill: tuple[int, int, int] = (0, 0, 0)

    def _frame(self, width: int, height: int, of_labels: bool) -> tuple[int, int, int, int]:
        """Size after the resize, and the square's left and top edge in it (px, may be < 0)."""
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
        """RGB image (any size) -> (S, S, 3) uint8; bicubic with antialiasing."""
        width, height, left, top = self._frame(*image.size, of_labels=False)
        image = image if image.mode == "RGB" else image.convert("RGB")
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        square = Image.new("RGB", (self.side, self.side), self.fill)
        square.paste(resized, (-left, -top))
        return np.asarray(square, dtype=np.uint8)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Label map (h, w) uint8 -> (S, S) uint8; nearest."""
        height, width = labels.shape
        width, height, left, top = self._frame(width, height, of_labels=True)
        resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(resized)[top : top + self.side, left : left + self.side].copy()

    def boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Boxes (M, 4) as x0 y0 x1 y1 in px of the photograph -> (M', 4) float32 in the square.

        Boxes are clipped to the square; those that fall outside it are dropped.
        """
        new_width, new_height, left, top = self._frame(width, height, of_labels=True)
        scale = np.array([new_width / width, new_height / height] * 2)
        moved = boxes.reshape(-1, 4) * scale - np.array([left, top, left, top])
        clipped = moved.clip(0, self.side)
        inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        return clipped[inside].astype(np.float32)


def mean_colour(mean: Sequence[float]) -> tuple[int, int, int]:
    """The RGB mean of a normalisation, in 0..1 -> the colour that it maps to zero, in 0..255."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
