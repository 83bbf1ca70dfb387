"""Spread: over training seeds, over images, and between two methods on the same images."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy  # imports its `stats`, which takes a second, where that is used: most tables never do
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from mmqsa.config.tables import SIGNED

RESAMPLES = 2000
# For an interval, a verdict, and bold print: of 2 seeds, Student's interval is the mean ± 9 sd.
FEWEST_SEEDS = 3
EXACT = 50  # images that differ; above, the normal approximation of Wilcoxon's test is as good
ARRANGEMENTS = 10_000  # of a permutation test: all of them if there are no more, else so many draws


def over_seeds(values: pd.Series) -> dict[str, float]:
    """``mean``, sample std ``sd`` and Student's 95 % interval of the mean, one a seed.

    A single seed has no ``sd``, and fewer than FEWEST_SEEDS have no interval.
    """
    count, mean = len(values), values.mean()
    if count < 2:
        return {"mean": mean}
    std = values.std(ddof=1)
    row = {"mean": mean, "sd": std}
    if count < FEWEST_SEEDS:
        return row
    half = stdtrit(count - 1, 0.975) * std / math.sqrt(count)
    return row | {"ci_low": mean - half, "ci_high": mean + half}


def spread(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """What figures draw of ``value``: the same for each group of ``by``, with its ``n_seeds``.

    ``seeds`` are the values of single seeds, each the mean of what the group has of it.
    """
    by_seed = rows.groupby([*by, "seed"], sort=False)["value"].mean().reset_index()
    return pd.DataFrame(
        [
            dict(zip(by, key, strict=True))
            | {"n_seeds": len(values), "seeds": values.tolist()}
            | over_seeds(values)
            for key, values in by_seed.groupby(by, sort=False)["value"]
        ],
        columns=[*by, "n_seeds", "seeds", "mean", "sd", "ci_low", "ci_high"],
    )


def scale(metric: str = "") -> tuple[int, int]:
    """The least and the greatest value of a metric, in percent."""
    return (-100 if metric in SIGNED else 0), 100


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the mean over images (N,); NaN are left out.

    Seeded: the same values give the same interval. Two NaN where there are fewer than two values.
    """
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = np.percentile(resampled_means(values), [2.5, 97.5])
    return float(low), float(high)


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Means of images drawn with replacement: (RESAMPLES, …) of values (N, …), none NaN.

    The draws depend on N alone, so that means of two methods may be subtracted.
    """
    return _resamples(len(values)) @ values / len(values)


@lru_cache(maxsize=8)  # most intervals of a table are over as many images
def _resamples(num_images: int) -> np.ndarray:
    """How often each image is drawn: (RESAMPLES, num_images)."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), RESAMPLES)
    return counts.astype(np.int32)


def paired(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """``second`` against ``first``, both indexed by image: the mean difference over shared images.

    With its bootstrap interval over images and the p of `paired_p`.
    """
    difference = (second - first).dropna()
    values = pd.concat([first, second])[lambda value: value.notna()]
    low, high = bootstrap_interval(difference.to_numpy())
    hits = np.array([values.isin([0, 100]).all()])
    return {
        "difference": float(difference.mean()) if len(difference) else float("nan"),
        "low": low,
        "high": high,
        "p": float(paired_p(difference.to_numpy()[:, None], hits)[0]),
        "n_images": len(difference),
    }


def paired_p(differences: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """The p (P,) of every pair's differences, image by image (N, P); 1 where no image differs.

    Of McNemar's exact test for pairs of ``hits`` (P,), which are 0 or 100 in every image, as CorLoc
    is: Wilcoxon's p is too small for so many ties. Else of Wilcoxon's signed-rank test, exact up to
    EXACT images that differ.
    """
    differences = differences.round(9)  # of means over seeds, equal ones differ by rounding
    p, apart = np.ones(differences.shape[1]), (differences != 0).any(axis=0)
    for pair in np.flatnonzero(apart & hits):
        signs = np.sign(differences[:, pair])
        won, lost = int((signs > 0).sum()), int((signs < 0).sum())
        p[pair] = scipy.stats.binomtest(won, won + lost).pvalue
    ranked = np.flatnonzero(apart & ~hits)
    few = (differences[:, ranked] != 0).sum(axis=0) <= EXACT
    p[ranked[few]] = [_signed_rank_p(differences[:, pair]) for pair in ranked[few]]
    if len(many := ranked[~few]):
        p[many] = scipy.stats.wilcoxon(differences[:, many], method="asymptotic").pvalue
    return p


def _signed_rank_p(difference: np.ndarray) -> float:
    """Wilcoxon's exact two-sided p of one pair, with ties: every sign is a fair coin's."""
    difference = difference[difference != 0]
    # Twice the ranks, since ties have halves; then how likely each sum of the positive ones is.
    ranks = (2 * scipy.stats.rankdata(abs(difference))).astype(int)
    share = np.zeros(ranks.sum() + 1)
    share[0] = 1
    for rank in ranks:
        share[rank:] = share[rank:] + share[: len(share) - rank]
        share /= 2
    positive = ranks[difference > 0].sum()
    return min(1.0, 2 * float(min(share[: positive + 1].sum(), share[positive:].sum())))


def spread_p(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The p (…) of a spread that falls from the first of several ``groups`` (…, seeds) to the last.

    One-sided, by permutation of Brown and Forsythe's (1974) distances from the median of the group,
    for a trend over the groups' ranks. The distance nearest to 0 is left out of each group: of an
    odd number of seeds it is 0 whatever they are, which hides what differs (Hines and Hines 2000).
    All arrangements count where there are up to ARRANGEMENTS, else so many seeded ones.
    """
    distances = [abs(values - np.median(values, axis=-1, keepdims=True)) for values in groups]
    kept = [np.sort(of_group, axis=-1)[..., 1:] for of_group in distances]
    arranged = _arrangements(tuple(of_group.shape[-1] for of_group in kept))
    # The sum of distance times rank falls and rises with the slope; the first row is as observed.
    sums = np.concatenate(kept, axis=-1) @ arranged.T
    return (sums <= sums[..., :1] + 1e-9).mean(axis=-1)


def smallest_p(sizes: Sequence[int]) -> float:
    """The least p that `spread_p` can give of groups of so many seeds."""
    return 1 / len(_arrangements(tuple(size - 1 for size in sizes)))


@lru_cache(maxsize=8)
def _arrangements(sizes: tuple[int, ...]) -> np.ndarray:
    """Ranks of groups of so many values, as they are and otherwise: (arrangements, values)."""
    observed = np.repeat(np.arange(len(sizes)), sizes)
    count = math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))
    if count <= ARRANGEMENTS:
        return np.array(list(_orders(sizes)), dtype=float)
    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.tile(observed, (ARRANGEMENTS - 1, 1)), axis=1)
    return np.vstack([observed, drawn]).astype(float)


def _orders(counts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All orders of so many zeros, ones, …; the first ascends."""
    if not any(counts):
        yield ()
    for rank, count in enumerate(counts):
        if count:
            for others in _orders((*counts[:rank], count - 1, *counts[rank + 1 :])):
                yield rank, *others


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values of one family of tests, corrected by Holm's step-down method (1979)."""
    ascending = pd.Series(np.asarray(p_values, dtype=float)).sort_values()
    factors = np.arange(len(ascending), 0, -1)
    return (factors * ascending).clip(upper=1).cummax().sort_index().to_numpy()
