"""Corruptions of an image, in five severities: data that a model was not trained on.

Kinds and strengths follow ImageNet-C (Hendrycks and Dietterich, ICLR 2019), whose images are 224 px
a side: lengths in px are scaled to the side at hand. Fog is drawn by octaves of smooth noise, so it
is fog-like and not theirs. Deterministic: an image's draws depend on its id, kind and severity.
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


def _noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    std = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return image + rng.normal(0, std, image.shape)


def _blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    std = (1, 2, 3, 4, 6)[severity - 1] * len(image) / _SIDE
    return gaussian_filter(image, (std, std, 0))


def _contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    kept = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = image.mean(axis=(0, 1))
    return mean + kept * (image - mean)


def _jpeg(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    quality = (25, 18, 15, 10, 7)[severity - 1]
    Image.fromarray(_bytes(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float64) / 255


def _fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    density = (1.5, 2.0, 2.5, 2.5, 3.0)[severity - 1]
    roughness = (2.0, 2.0, 1.7, 1.5, 1.4)[
        severity - 1
    ]  # how much an octave is weaker than the last
    side, fog = len(image), 0.0
    for octave in range(1, int(np.log2(side))):
        cells = 2**octave
        coarse = rng.uniform(size=(cells, cells))
        fine = zoom(coarse, side / cells, order=1, mode="nearest", grid_mode=True)
        fog = fog + fine[:side, :side] / roughness**octave
    fog = (fog - fog.min()) / (fog.max() - fog.min())
    # Thick enough fog hides the image, and never brightens it beyond its own white.
    return (image + density * fog[..., None]) * image.max() / (image.max() + density)


def _pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    side = len(image)
    few = max(1, round(_SIDE * (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]))
    small = Image.fromarray(_bytes(image)).resize((few, few), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST), np.float64) / 255


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
    "fog": _fog,
    "pixelate": _pixelate,
}


@dataclass(frozen=True)
class Corruption:
    """One kind at one severity, 1 to 5."""

    kind: str
    severity: int

    @classmethod
    def parse(cls, name: str) -> "Corruption":
        """From a name like ``fog3``. Raises InputError when there is none such."""
        kind, severity = name[:-1], name[-1:]
        if kind not in KINDS or severity not in map(str, SEVERITIES):
            raise InputError(
                f"{name}: no corruption; say one of {', '.join(KINDS)} and its severity, 1 to 5, "
                "such as fog3"
            )
        return cls(kind, int(severity))

    @property
    def name(self) -> str:
        return f"{self.kind}{self.severity}"

    def __call__(self, image: np.ndarray, image_id: str) -> np.ndarray:
        """Image (S, S, 3) uint8 -> the same corrupted; the same id gives the same draws."""
        digest = hashlib.sha256(f"{self.name} {image_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        return _bytes(KINDS[self.kind](image / 255, self.severity, rng))
