import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from mmqsa.reporting.statistics import bootstrap_interval, holm, over_seeds, paired


def test_spread_over_seeds_by_hand():
    found = over_seeds(pd.Series([50.0, 54.0]))
    assert found["mean"] == 52 and found["sd"] == pytest.approx(8**0.5)
    # Student's t, 1 degree of freedom: 12.706 * sd / sqrt(2)
    assert found["ci_high"] == pytest.approx(52 + 12.7062 * 2, abs=1e-3)
    assert over_seeds(pd.Series([50.0])) == {"mean": 50.0}


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
