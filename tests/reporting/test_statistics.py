from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, wilcoxon

from mmqsa.reporting.statistics import bootstrap_interval, holm, over_seeds, paired, spread


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
    assert paired(halves, other)["p"] == pytest.approx(wilcoxon(other - halves).pvalue)
