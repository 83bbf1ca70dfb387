"""Corruptions of an image, in five severities: data that a model was not trained on.

Kinds and strengths follow ImageNet-C (Hendrycks and Dietterich, ICLR 2019), whose images are 224 px
a side: lengths in px are scaled to the image's side. Fog is made of octaves of smooth noise, which
differs from theirs. Deterministic: an image's draws depend on its id, kind and severity.

To add one: a function with ``@corruption`` here, and its name in CORRUPTIONS of config/tables.py.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from mmqsa.errors import InputError

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224  # px that the strengths in px are for

Kind = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
KINDS: dict[str, Kind] = {}


def corruption(kind: Kind) -> Kind:
    """Register a kind of corruption under its function's name.

    The function takes an image (S, S, 3) in 0..1, a severity and a generator, and returns the image
    corrupted; values outside of 0..1 are clipped.
    """
    KINDS[kind.__name__] = kind
    return kind


@corruption
def noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    std = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return image + rng.normal(0, std, image.shape)


@corruption
def blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    std = (1, 2, 3, 4, 6)[severity - 1] * len(image) / _SIDE
    return gaussian_filter(image, (std, std, 0))


@corruption
def contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    kept = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = image.mean(axis=(0, 1))
    return mean + kept * (image - mean)


@corruption
def jpeg(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    quality = (25, 18, 15, 10, 7)[severity - 1]
    Image.fromarray(_bytes(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float64) / 255


@corruption
def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    density = (1.5, 2.0, 2.5, 2.5, 3.0)[severity - 1]
    weakening = (2.0, 2.0, 1.7, 1.5, 1.4)[severity - 1]  # of each octave after the last
    side = len(image)
    haze = np.zeros((side, side))
    for octave in range(1, int(np.log2(side))):
        cells = 2**octave
        coarse = rng.uniform(size=(cells, cells))
        fine = zoom(coarse, side / cells, order=1, mode="nearest", grid_mode=True)
        haze += fine[:side, :side] / weakening**octave
    haze = (haze - haze.min()) / (haze.max() - haze.min())
    # Thick enough fog hides the image, and never brightens it beyond its own white.
    return (image + density * haze[..., None]) * image.max() / (image.max() + density)


@corruption
def pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    side = len(image)
    few = max(1, round(_SIDE * (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]))
    small = Image.fromarray(_bytes(image)).resize((few, few), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST), np.float64) / 255


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Corruption:
    """One kind at one severity, 1 to 5."""

    kind: str
    severity: int

    @classmethod
    def parse(cls, name: str) -> "Corruption":
        """From a name like ``fog3``. Raises InputError on an unknown one."""
        kind, severity = name[:-1], name[-1:]
        if kind not in KINDS or severity not in map(str, SEVERITIES):
            raise InputError(
                f"unknown corruption {name!r}; expected one of {', '.join(KINDS)} and a severity, "
                "1 to 5, such as fog3"
            )
        return cls(kind, int(severity))

    @property
    def name(self) -> str:
        return f"{self.kind}{self.severity}"

    def __call__(self, image: np.ndarray, image_id: str) -> np.ndarray:
        """Image (S, S, 3) uint8 -> the same corrupted; equal ids give equal draws."""
        digest = hashlib.sha256(f"{self.name} {image_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        return _bytes(KINDS[self.kind](image / 255, self.severity, rng))
