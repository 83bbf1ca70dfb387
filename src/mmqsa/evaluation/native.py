"""Photographs at their own size: masks over each one's own grid, and which runs can give them.

A trained run gives the masks of slot attention, which knows no positions of its own. Its decoder
has one position for each patch of the square that it was trained on, so its masks are left out.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mmqsa.config.choices import MaskSource
from mmqsa.errors import InputError
from mmqsa.evaluation.scoring import label_maps, winning_slots
from mmqsa.features.cache import FeatureCache
from mmqsa.progress import notice


def placed_label_maps(
    masks: Tensor, cache: FeatureCache, indices: Sequence[int]
) -> np.ndarray | list[np.ndarray]:
    """Masks (B, K, N) of images of one grid -> the slot of each pixel, uint8.

    Each is (S, S), or has the size of its photograph: what was padded is cut off.
    """
    if not cache.is_native:
        return label_maps(masks, cache.side)
    rows, columns = grid = cache.grid_of(indices[0])
    padded = winning_slots(masks, rows * cache.patch, columns * cache.patch, grid)[0].cpu().numpy()
    sizes = [cache.size(index) for index in indices]
    return [one[:height, :width] for one, (width, height) in zip(padded, sizes, strict=True)]


def one_mean(mean: Tensor) -> Tensor:
    """Means of features at each patch of a square (N, D) -> that of all patches (1, D).

    Raises InputError where they differ: other grids have other patches.
    """
    if not bool((mean == mean[:1]).all()):
        raise InputError(
            "features.standardise: position has a mean for each patch of the square, and "
            "photographs at their own size have others; choose feature or none"
        )
    return mean[:1]


def attention_alone(sources: Sequence[MaskSource]) -> list[MaskSource]:
    """Of the mask sources that are asked for, the one that knows no grid. Raises InputError."""
    where = "photographs at their own size"
    if "attention" not in sources:
        raise InputError(
            f"evaluation.mask_sources: a decoder has positions for the patches of a square alone, "
            f"and these are {where}; add attention"
        )
    if others := [source for source in sources if source != "attention"]:
        notice(f"{' and '.join(others)}: left out on {where}: positions are those of a square")
    return ["attention"]
