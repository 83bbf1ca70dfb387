"""The paper's premise, on one cache: does background masking hide the background?"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmqsa.config.model import MaskingStrategy
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.scoring import write_csv
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masking import visible_patches

STRATEGIES: tuple[MaskingStrategy, ...] = ("background", "foreground", "random", "none")
BLOCK = 128  # images at a time


def object_share(classes: np.ndarray, grid: int) -> np.ndarray:
    """Class label maps (num_images, S, S) -> share of each patch that is object, 0..1.

    The result is (num_images, N).
    """
    inside = (classes > 0) & (classes < VOID)
    num_images, side, _ = inside.shape
    tiles = inside.reshape(num_images, grid, side // grid, grid, side // grid)
    return tiles.mean(axis=(2, 4)).reshape(num_images, -1)


def score_premise(cache: FeatureCache, ratio: float, out: Path) -> Path:
    """For each masking strategy, in percent, how much of what stays visible is object.

    ``correlation`` is the mean over images of Pearson's r between a patch's mean feature and its
    share of object: the premise expects it well below 0. Returns the csv in ``out``. Raises
    InputError when the cache has no class labels.
    """
    if cache.classes is None:
        raise InputError(f"{cache.path}: has no class label maps to compare the masks with")
    num_images, num_patches, _ = cache.features.shape
    uniform = torch.rand((num_images, num_patches), generator=torch.Generator().manual_seed(0))
    visible: dict[MaskingStrategy, list[np.ndarray]] = {strategy: [] for strategy in STRATEGIES}
    shares, correlations = [], []
    for start in range(0, num_images, BLOCK):
        rows = slice(start, start + BLOCK)
        features = torch.from_numpy(cache.read(rows))
        share = object_share(cache.classes[rows], cache.grid)
        shares.append(share)
        for mean, of_image in zip(features.float().mean(dim=-1).numpy(), share, strict=True):
            if of_image.std() > 0:
                correlations.append(np.corrcoef(mean, of_image)[0, 1])
        for strategy, seen in visible.items():
            indices = visible_patches(features, strategy, ratio, uniform[rows])
            seen.append(np.take_along_axis(share, indices.numpy(), axis=1))
    everything = 100 * np.concatenate(shares).mean()
    table = [
        [strategy, ratio, 100 * np.concatenate(seen).mean(), everything, np.mean(correlations)]
        for strategy, seen in visible.items()
    ]
    columns = ["strategy", "ratio", "visible_object", "all_object", "correlation"]
    path = out / f"{cache.name}-premise.csv"
    write_csv(pd.DataFrame(table, columns=columns).assign(n_images=num_images), path)
    return path
