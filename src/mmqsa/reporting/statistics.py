"""Spread: over training seeds, over images, and between two methods on the same images."""

import math
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy  # imports its `stats`, which takes a second, where that is used: most tables never do
from numpy.typing import ArrayLike
from scipy.special import stdtrit

RESAMPLES = 2000


def over_seeds(values: pd.Series) -> dict[str, float]:
    """``mean``, sample std ``sd`` and Student's 95 % interval of the mean, one a seed.

    All but the mean are left out for a single seed.
    """
    count, mean = len(values), values.mean()
    if count < 2:
        return {"mean": mean}
    std = values.std(ddof=1)
    half = stdtrit(count - 1, 0.975) * std / math.sqrt(count)
    return {"mean": mean, "sd": std, "ci_low": mean - half, "ci_high": mean + half}


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean over images (N,); NaN are left out.

    Seeded: the same values give the same interval. Two NaN where there are fewer than two values.
    """
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = np.percentile(_resamples(len(values)) @ values / len(values), [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=8)  # most intervals of a table are over as many images
def _resamples(num_images: int) -> np.ndarray:
    """How often each image is drawn: (RESAMPLES, num_images)."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), RESAMPLES)
    return counts.astype(np.int32)


def paired(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """``second`` against ``first``, both indexed by image: the mean difference over shared images.

    With its bootstrap interval over images and the p of Wilcoxon's signed-rank test, or of
    McNemar's exact test where every image is 0 or 100 in both, as CorLoc is; 1 where no image
    differs.
    """
    difference = (second - first).dropna()
    values = pd.concat([first, second])[lambda value: value.notna()]
    low, high = bootstrap_interval(difference.to_numpy())
    apart = difference[difference != 0]
    p = 1.0
    if len(apart) and values.isin([0, 100]).all():  # Wilcoxon's p is too small for so many ties
        p = scipy.stats.binomtest(int((apart > 0).sum()), len(apart)).pvalue
    elif len(apart):
        p = scipy.stats.wilcoxon(difference.to_numpy()).pvalue
    return {
        "difference": float(difference.mean()) if len(difference) else float("nan"),
        "low": low,
        "high": high,
        "p": float(p),
        "n_images": len(difference),
    }


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values of one family of tests, corrected by Holm's step-down method (1979)."""
    ascending = pd.Series(np.asarray(p_values, dtype=float)).sort_values()
    factors = np.arange(len(ascending), 0, -1)
    return (factors * ascending).clip(upper=1).cummax().sort_index().to_numpy()
