from itertools import chain, permutations, product
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, permutation_test, rankdata, wilcoxon
from statsmodels.stats.contingency_tables import mcnemar

from mmqsa.reporting.statistics import (
    bootstrap_interval,
    holm,
    over_seeds,
    paired,
    smallest_p,
    spread,
    spread_p,
)


def test_spread_over_seeds_by_hand():
    found = over_seeds(pd.Series([50.0, 52.0, 54.0]))
    assert found["mean"] == 52 and found["sd"] == 2
    # Student's t, 2 degrees of freedom: 4.3027 * sd / sqrt(3)
    assert found["ci_high"] == pytest.approx(52 + 4.3027 * 2 / 3**0.5, abs=1e-3)
    assert over_seeds(pd.Series([50.0, 54.0])) == {"mean": 52, "sd": pytest.approx(8**0.5)}
    assert over_seeds(pd.Series([50.0])) == {"mean": 50.0}


def test_a_seed_that_is_scored_twice_counts_once():
    rows = pd.DataFrame(
        {"at": [1, 1, 1, 2], "seed": [0, 0, 1, 0], "value": [10.0, 20.0, 25.0, 7.0]}
    )
    means = spread(rows, ["at"])
    assert means["n_seeds"].tolist() == [2, 1] and means["seeds"].tolist() == [[15, 25], [7]]
    assert means["mean"].tolist() == [20, 7] and means["ci_low"].isna().all()


def test_bootstrap_interval_against_scipy():
    values = np.random.default_rng(0).exponential(size=200)
    oracle = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    found = bootstrap_interval(np.append(values, np.nan))  # an image without the metric
    np.testing.assert_allclose(found, oracle, atol=0.02)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert all(np.isnan(bootstrap_interval(np.array([1.0, np.nan]))))


def test_a_paired_test_sees_a_small_shift_that_is_everywhere():
    rng = np.random.default_rng(0)
    first = pd.Series(rng.uniform(size=50), index=[f"i{n}" for n in range(50)])
    shifted = first + 0.01 + rng.normal(0, 0.01, 50)
    found = paired(first, shifted.sample(frac=1, random_state=0))  # paired by id, not by place
    assert found["p"] < 1e-4 and found["low"] > 0 and found["n_images"] == 50
    assert found["difference"] == pytest.approx((shifted - first).mean())
    assert paired(first, first) == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p": 1.0,
        "n_images": 50,
    }
    assert paired(first, shifted[:20])["n_images"] == 20


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_hits_and_misses_are_compared_by_mcnemars_exact_test():
    """Plainly: of the images that one of two methods hits alone, a fair coin decides whose."""
    first = pd.Series([100.0] * 40 + [0.0] * 20)
    second = pd.Series([100.0] * 37 + [0.0] * 3 + [100.0] * 12 + [0.0] * 8)  # 12 won, 3 lost
    at_most_3 = sum(comb(15, k) for k in range(4)) / 2**15
    assert paired(first, second)["p"] == pytest.approx(2 * at_most_3)
    halves = pd.concat([first, pd.Series([50.0])], ignore_index=True)  # a mean over seeds
    other = pd.concat([second, pd.Series([100.0])], ignore_index=True)
    assert paired(halves, other)["p"] == pytest.approx(signed_rank_p(other - halves))


@pytest.mark.parametrize("won, lost", [(0, 0), (1, 0), (0, 5), (4, 4), (3, 12), (40, 41), (2, 90)])
def test_mcnemars_test_is_that_of_statsmodels(won, lost):
    both, neither = 30, 20
    first = [100.0] * (both + lost) + [0.0] * (neither + won)
    second = [100.0] * both + [0.0] * (lost + neither) + [100.0] * won
    expected = mcnemar([[both, lost], [won, neither]], exact=True).pvalue
    assert paired(pd.Series(first), pd.Series(second))["p"] == pytest.approx(expected, rel=1e-12)


def signed_rank_p(differences):
    """Wilcoxon's two-sided p, plainly: of all signs that these differences could have had."""
    apart = differences[differences != 0]
    ranks = rankdata(abs(apart))
    sums = (np.array(list(product([0, 1], repeat=len(ranks)))) * ranks).sum(axis=1)
    observed = ranks[apart > 0].sum()
    return min(1, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


def test_wilcoxons_p_is_exact_where_few_images_differ_however_many_are_equal():
    differences = np.array([100 / 3, 200 / 3, 100 / 3, 100, 200 / 3] + [0.0] * 237)
    first = pd.Series(np.full(len(differences), 100 / 3))
    found = paired(first, first + differences)["p"]
    assert found == pytest.approx(signed_rank_p(differences)) and found > 0.05
    assert wilcoxon(differences, method="asymptotic").pvalue < 0.05  # which is too small


def test_equal_differences_of_means_over_seeds_are_ties_whatever_their_last_bits_are():
    """Of three seeds: 2/3 - 1/3, 1 - 2/3 and 1/3 are three different floats."""
    hits = np.array([[0, 1, 2, 3], [1, 2, 3, 3]] * 30) / 3  # (60, 4)
    first, second = (pd.Series(100 * hits[:, column]) for column in (0, 2))
    thirds = (second - first).round(6)
    assert len(set(second - first)) > len(set(thirds))
    assert paired(first, second)["p"] == wilcoxon(thirds, method="asymptotic").pvalue


def spread_by_hand(groups):
    """Plainly: every order of the distances from the median, without the least of each group."""
    kept = [sorted(abs(value - np.median(values)) for value in values)[1:] for values in groups]
    ranks = np.repeat(range(len(kept)), [len(of_group) for of_group in kept])
    observed, *_ = sums = [
        sum(rank * distance for rank, distance in zip(ranks, order, strict=True))
        for order in permutations(chain(*kept))
    ]
    return np.mean([one <= observed + 1e-9 for one in sums])


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 4), (3, 5), (3, 4, 3)])
def test_a_falling_spread_is_tested_over_all_orders(sizes):
    rng = np.random.default_rng(0)
    groups = [rng.normal(scale=4 - rank, size=size) for rank, size in enumerate(sizes)]
    assert spread_p(groups) == pytest.approx(spread_by_hand(groups))
    tied = [values.round() for values in groups]
    assert spread_p(tied) == pytest.approx(spread_by_hand(tied))


def test_of_many_orders_some_are_drawn():
    rng = np.random.default_rng(0)
    groups = [rng.normal(scale=std, size=6) for std in (2, 1.5, 1)]
    kept = [np.sort(abs(values - np.median(values)))[1:] for values in groups]

    def falls(one, two, three, axis):
        return one.sum(axis) - three.sum(axis)

    many = permutation_test(kept, falls, n_resamples=50_000, alternative="greater", rng=1)
    assert spread_p(groups) == pytest.approx(many.pvalue, abs=0.01)
    assert spread_p(groups) == spread_p(groups)


def test_the_least_p_of_a_falling_spread():
    """With 3 seeds of two settings it is 1/6: no verdict; of four settings 2,520 orders differ."""
    assert smallest_p([3, 3]) == 1 / 6 and smallest_p([3] * 4) == 1 / 2520
    assert smallest_p([10] * 4) == 1e-4
    apart = [scale * np.array([-1.0, 0, 1.1]) for scale in (1000, 100, 10, 1)]
    assert spread_p(apart) == smallest_p([3] * 4)


@pytest.mark.parametrize("seeds, finds", [(3, 0.277), (5, 0.548), (10, 0.903)])
def test_the_spread_test_errs_as_seldom_as_it_says_and_finds_as_much_as_documented(seeds, finds):
    """Of 2,000 made tables: ± 2.5 std. The powers are those of benchmarks/results/power.md."""
    rng = np.random.default_rng(1)
    normal = [rng.normal(size=(2000, seeds)) for _ in range(4)]
    for groups in (normal, [values.round() for values in normal]):  # heavy ties
        assert (spread_p(groups) < 0.05).mean() <= 0.05 + 0.012
    falling = [values / 3 ** (rank / 3) for rank, values in enumerate(normal)]
    assert (spread_p(falling) < 0.05).mean() == pytest.approx(finds, abs=0.03)
    alike = [np.ones((1, seeds))] * 4
    assert spread_p(alike) == 1
