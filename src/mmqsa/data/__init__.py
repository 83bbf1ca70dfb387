"""Photographs, labels and the geometry that they share."""

from typing import TYPE_CHECKING

__all__ = [
    "Geometry",
    "VocFolder",
    "write_scenes",
]

if TYPE_CHECKING:
    from mmqsa.data.geometry import Geometry
    from mmqsa.data.scenes import write_scenes
    from mmqsa.data.voc import VocFolder
else:
    from mmqsa.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "mmqsa.data.geometry": ["Geometry"],
            "mmqsa.data.scenes": ["write_scenes"],
            "mmqsa.data.voc": ["VocFolder"],
        },
    )
