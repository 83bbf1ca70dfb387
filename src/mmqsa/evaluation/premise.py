"""The paper's premise, on one cache: does a patch's score tell background from object?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from mmqsa.atomic import write_together
from mmqsa.data.geometry import VOID
from mmqsa.errors import InputError
from mmqsa.evaluation.scoring import csv_bytes
from mmqsa.features.attributes import check_attributes
from mmqsa.features.cache import FeatureCache
from mmqsa.features.principal_component import background_direction
from mmqsa.model.masking import visible_patches

BLOCK = 128  # images at a time
BINS = 60  # of a histogram
SCORES = ("mean", "principal-component")


def object_share(classes: np.ndarray, grid: int) -> np.ndarray:
    """Class label maps (num_images, S, S) -> share of each patch that is object, 0..1.

    The result is (num_images, N).
    """
    inside = (classes > 0) & (classes < VOID)
    num_images, side, _ = inside.shape
    tiles = inside.reshape(num_images, grid, side // grid, grid, side // grid)
    return tiles.mean(axis=(2, 4)).reshape(num_images, -1)


@dataclass
class Premise:
    """What masking knows of the patches of a cache, and the truth."""

    share: np.ndarray
    """(num_images, N) share of each patch that is object, 0..1"""
    position_variance: float
    """share of the features' variance that their mean at each position explains, 0..1"""
    scores: dict[str, np.ndarray]
    """(num_images, N) by name, high for what is taken for background"""

    @property
    def is_object(self) -> np.ndarray:
        """(num_images, N) bool: most of the patch is object."""
        return self.share > 0.5

    def areas(self, score: str) -> np.ndarray:
        """(num_images,) area under each image's ROC curve; NaN where it has one kind of patch."""
        return np.array([*map(_area, self.is_object, self.scores[score])])

    def table(self, ratio: float) -> pd.DataFrame:
        """One row per score, in percent but for the areas under ROC curves.

        ``auc_per_image`` and ``auc_pooled``: how well a high score says background (1: always,
        0.5: as chance does, 0: it always says object), mean over images that have both, and over
        all patches together. ``background_shows`` and ``foreground_shows``: share of object among
        the patches that stay visible when ``ratio`` of them is hidden, at the high end or at the
        low one; ``background_hides``: share of object among the hidden ones; ``all_object`` among
        all.
        """
        rows = []
        for name, score in self.scores.items():
            hidden = visible_patches(torch.from_numpy(-score), "background", 1 - ratio)
            shown = visible_patches(torch.from_numpy(score), "background", ratio)
            least = visible_patches(torch.from_numpy(score), "foreground", ratio)
            row = {
                "score": name,
                "auc_per_image": pd.Series(self.areas(name)).mean(),  # of those that have both
                "auc_pooled": _area(self.is_object, score),
                "background_shows": self._object_among(shown),
                "background_hides": self._object_among(hidden),
                "foreground_shows": self._object_among(least),
            }
            rows.append(row)
        return pd.DataFrame(rows).assign(
            all_object=100 * self.share.mean(),
            position_variance=100 * self.position_variance,
            ratio=ratio,
            n_images=len(self.share),
        )

    def histogram(self) -> pd.DataFrame:
        """How many background and object patches have which score: a row per score and bin.

        Scores are in standard deviations from their mean over all patches; the outermost bins hold
        what lies beyond them as well.
        """
        edges, tables = np.linspace(-3, 3, BINS + 1), []
        for name, score in self.scores.items():
            bins = np.digitize((score - score.mean()) / max(score.std(), 1e-12), edges[1:-1])
            counts = {"score": name, "low": edges[:-1], "high": edges[1:]}
            for kind, patches in (("background", ~self.is_object), ("object", self.is_object)):
                counts[kind] = np.bincount(bins[patches], minlength=BINS)
            tables.append(pd.DataFrame(counts))
        return pd.concat(tables, ignore_index=True)

    def _object_among(self, indices: torch.Tensor) -> float:
        return 100 * np.take_along_axis(self.share, indices.numpy(), axis=1).mean()


def _area(is_object: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of a high score for background; NaN where there is only one kind."""
    if is_object.all() or not is_object.any():
        return float("nan")
    return float(roc_auc_score(~is_object.ravel(), score.ravel()))


def measure_premise(cache: FeatureCache, train: FeatureCache) -> Premise:
    """Scores of every patch of ``cache``; the principal component is that of ``train``.

    Raises InputError when the cache has no class labels, or the caches' networks differ.
    """
    check_attributes(cache.network, train.network, cache.path, reader=str(train.path))
    if cache.classes is None:
        raise InputError(f"{cache.path}: has no class label maps to compare the masks with")
    direction = background_direction(train.features)
    num_images, num_patches, dim = cache.features.shape
    shares: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    at_patch = torch.zeros(num_patches, dim, dtype=torch.float64)
    square = torch.zeros(dim, dtype=torch.float64)
    for start in range(0, num_images, BLOCK):
        rows = slice(start, start + BLOCK)
        features = torch.from_numpy(cache.features[rows]).float()
        shares.append(object_share(cache.classes[rows], cache.grid))
        scores["mean"].append(features.mean(dim=-1).numpy())
        scores["principal-component"].append((features @ direction).numpy())
        at_patch += features.double().sum(dim=0)
        square += features.double().square().sum(dim=(0, 1))
    mean = at_patch / num_images
    centre = mean.mean(dim=0)
    variance = square / (num_images * num_patches) - centre.square()  # (D,)
    of_position = (mean - centre).square().mean(dim=0)
    explained = (of_position / variance.clamp_min(1e-12)).mean()
    if not any(share.any() for share in shares):
        raise InputError(
            f"{cache.path}: no object in any image (class label maps), so there is nothing to tell "
            "from background; take a split with labelled objects"
        )
    joined = {name: np.concatenate(blocks) for name, blocks in scores.items()}
    return Premise(np.concatenate(shares), float(explained), joined)


def write_premise(premise: Premise, name: str, ratio: float, out: Path) -> list[Path]:
    """Write ``{name}-premise.csv`` and ``{name}-premise-histogram.csv`` to ``out``."""
    tables = {"premise": premise.table(ratio), "premise-histogram": premise.histogram()}
    paths = [out / f"{name}-{kind}.csv" for kind in tables]
    files = zip(reversed(paths), reversed(tables.values()), strict=True)  # the first vouches
    write_together({path: csv_bytes(table, path) for path, table in files})
    return paths
