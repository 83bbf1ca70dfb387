"""Does background masking hide the background? The paper's premise, on one cache's keys."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.scoring import write_csv
from mmqsa.features.cache import FeatureCache
from mmqsa.model.masking import visible_patches


def object_share(classes: np.ndarray, grid: int) -> np.ndarray:
    """Class label maps (num_images, S, S) -> share of each patch that is object, (num_images, N) in 0..1."""
    inside = (classes > 0) & (classes < VOID)
    images, side, _ = inside.shape
    patch = side // grid
    return inside.reshape(images, grid, patch, grid, patch).mean(axis=(2, 4)).reshape(images, -1)


def score_premise(cache: FeatureCache, ratio: float, out: Path) -> Path:
    """For each masking strategy, in percent, how much of what stays visible is object.

    ``correlation`` is the mean over images of Pearson's r between a patch's mean key and its share
    of object: the premise wants it well below 0. Returns the csv in ``out``. Raises InputError
    when the cache has no class labels.
    """
    if cache.classes is None:
        raise InputError(f"{cache.path}: has no class label maps to hold the masks against")
    keys, share = torch.from_numpy(cache.features[:]), object_share(cache.classes[:], cache.grid)
    means = keys.float().mean(dim=-1).numpy()
    varied = [(mean, own) for mean, own in zip(means, share, strict=True) if own.std() > 0]
    correlation = np.mean([np.corrcoef(mean, own)[0, 1] for mean, own in varied])
    rows = []
    uniform = torch.rand(keys.shape[:2], generator=torch.Generator().manual_seed(0))
    for strategy in ("background", "foreground", "random", "none"):
        visible = visible_patches(keys, strategy, ratio, uniform)
        seen = np.take_along_axis(share, visible.numpy(), axis=1).mean()
        rows.append([strategy, ratio, 100 * seen, 100 * share.mean(), correlation, len(share)])
    columns = ["strategy", "ratio", "visible_object", "all_object", "correlation", "n_images"]
    path = out / f"{cache.name}-premise.csv"
    write_csv(pd.DataFrame(rows, columns=columns), path)
    return path
