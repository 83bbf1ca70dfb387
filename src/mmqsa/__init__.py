"""Masked multi-query slot attention: a reproduction whose numbers can be checked.

    import mmqsa

    segmenter = mmqsa.load("results/runs/full/seed0")
    objects = segmenter(Image.open("photo.jpg"))  # objects.masks, objects.boxes, objects.scores

docs/api.md lists what else can be imported.
"""

from typing import TYPE_CHECKING

from mmqsa.errors import InputError

__version__ = "1.0.0"

__all__ = ["InputError", "Segmentation", "Segmenter", "__version__", "load"]

if TYPE_CHECKING:
    from mmqsa.discover.segmenter import Segmentation, Segmenter, load
else:
    from mmqsa.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__, {"mmqsa.discover.segmenter": ["Segmentation", "Segmenter", "load"]}
    )
