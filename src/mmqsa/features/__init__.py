"""Patch features of a frozen backbone, and the file that caches them."""

from typing import TYPE_CHECKING

__all__ = [
    "FeatureCache",
    "FrozenViT",
    "load_backbone",
    "normalise",
]

if TYPE_CHECKING:
    from mmqsa.features.backbone import FrozenViT, load_backbone
    from mmqsa.features.cache import FeatureCache
    from mmqsa.features.extract import normalise
else:
    from mmqsa.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "mmqsa.features.backbone": ["FrozenViT", "load_backbone"],
            "mmqsa.features.cache": ["FeatureCache"],
            "mmqsa.features.extract": ["normalise"],
        },
    )
