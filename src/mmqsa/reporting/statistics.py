"""Spread: over training seeds, over images, and between two methods on the same images."""

import math
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import t as student
from scipy.stats import wilcoxon

RESAMPLES = 2000


def over_seeds(values: pd.Series) -> dict[str, float]:
    """``mean``, sample std ``sd`` and Student's 95 % interval of the mean, one a seed.

    All but the mean are left out for a single seed.
    """
    number, mean = len(values), values.mean()
    if number < 2:
        return {"mean": mean}
    std = values.std(ddof=1)
    half = student.ppf(0.975, number - 1) * std / math.sqrt(number)
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
def _resamples(number: int) -> np.ndarray:
    """How often each of ``number`` images is drawn: (RESAMPLES, number)."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(number, np.full(number, 1 / number), RESAMPLES)
    return counts.astype(np.int32)


def paired(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """``second`` against ``first``, both indexed by image: the mean difference over shared images.

    With its bootstrap interval over images and the p of Wilcoxon's signed-rank test, which is 1
    where no image differs.
    """
    difference = (second - first).dropna().to_numpy()
    low, high = bootstrap_interval(difference)
    p = wilcoxon(difference).pvalue if np.any(difference != 0) else 1.0
    return {
        "difference": float(difference.mean()) if len(difference) else float("nan"),
        "low": low,
        "high": high,
        "p": float(p),
        "n_images": len(difference),
    }


def holm(p_values: list[float]) -> list[float]:
    """p-values of one family of tests, corrected by Holm's step-down method (1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected, least = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected.tolist()
