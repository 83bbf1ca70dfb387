"""How many seeds a difference needs, against statsmodels and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, ttest_ind
from statsmodels.stats.power import TTestIndPower, TTestPower

from mmqsa.reporting.seeds import MOST, pooled_sd, power, seeds_needed

SOLVERS = {"two-sample": TTestIndPower(), "paired": TTestPower()}


@pytest.mark.parametrize("design", SOLVERS)
@pytest.mark.parametrize("effect", [0.15, 0.3, 0.5, 1.0, 1.7, 2.5])
def test_seeds_are_those_of_statsmodels(design, effect):
    needed = seeds_needed(effect, 1.0, design)
    assert SOLVERS[design].power(effect, needed, 0.05) >= 0.8
    assert SOLVERS[design].power(effect, needed - 1, 0.05) < 0.8
    assert power(effect, 9, design) == pytest.approx(SOLVERS[design].power(effect, 9, 0.05))


@pytest.mark.parametrize("design", SOLVERS)
def test_alike_runs_need_two_seeds_and_no_number_is_enough_for_others(design):
    """A std of next to nothing has a power that overflows where it is computed plainly."""
    assert [seeds_needed(1, sd, design) for sd in (0.0, 1e-12, 0.01)] == [2, 2, 2]
    assert seeds_needed(1, 40.0, design) == math.inf
    counts = [seeds_needed(1, sd, design) for sd in np.geomspace(0.05, 40, 60)]
    assert counts == sorted(counts) and max(one for one in counts if one < math.inf) <= MOST


def test_the_interval_of_a_std_by_hand():
    values = pd.Series([50.0, 52.0, 54.0])  # sd 2, 2 degrees of freedom
    sd, low, high = pooled_sd([values])
    assert sd == 2
    assert low == pytest.approx(2 * math.sqrt(2 / chi2.ppf(0.975, 2)))
    assert high == pytest.approx(2 * math.sqrt(2 / chi2.ppf(0.025, 2)))
    other = pd.Series([1.0, 9.0, 4.0, 7.0])  # its degrees of freedom with these are Welch's
    sd, low, _ = pooled_sd([values, other[:3]])
    freedom = ttest_ind(values, other[:3], equal_var=False).df
    assert sd == pytest.approx(math.sqrt((4 + other[:3].var()) / 2))
    assert low == pytest.approx(sd * math.sqrt(freedom / chi2.ppf(0.975, freedom)))
    assert pooled_sd([values - values]) == (0, 0, 0)


@pytest.fixture
def runs(made):
    """Two settings whose seeds go up and down together, and one of fewer seeds."""
    made.config |= {"seeds": [0, 1, 2], "settings": {"full": {}, "random": {}, "late": {}}}
    scores = {"full": (50.0, 54.0, 58.0), "random": (40.1, 43.9, 48.0), "late": (60.0, 61.0)}
    for setting, values in scores.items():
        for seed, value in enumerate(values):
            made.metrics(setting, seed, made.scores(value, "mbo_c"), mask_source="attention")
    return made


def test_pairing_by_seed_helps_where_seeds_go_together(runs):
    table, text = runs.table(kind="seeds", mask_sources=["attention"])
    rows = table[table["label"] == "random"].set_index(["design", "difference"])
    spread = math.sqrt((16 + np.var([40.1, 43.9, 48.0], ddof=1)) / 2)
    assert rows.loc[("two-sample", 2), "sd"] == pytest.approx(spread, abs=1e-3)
    assert rows.loc[("two-sample", 2), "seeds"] == seeds_needed(2, spread, "two-sample")
    assert rows.loc[("paired", 2), "sd"] == pytest.approx(0.1, abs=1e-3)
    assert rows.loc[("paired", 2), "seeds"] == 2
    assert (rows["seeds_low"] <= rows["seeds"]).all()
    assert (rows["seeds"] <= rows["seeds_high"]).all()
    assert "0.1 (0.1–0.6)" in text and "differs from full by so many points" in text


def test_of_fewer_than_three_seeds_nothing_is_said(runs):
    table, text = runs.table(kind="seeds", mask_sources=["attention"])
    late = table[table["label"] == "late"]
    assert late["seeds"].isna().all() and late["n_seeds"].tolist() == [2, 2]
    cells = next(line for line in text.splitlines() if line.startswith("| late")).split("|")
    assert [cell.strip() for cell in cells[2:-1]] == ["mBO^c", "2", *[""] * 8]


def test_a_setting_alone_is_compared_with_one_that_spreads_alike(runs):
    table, text = runs.table(kind="seeds", settings=["full"], mask_sources=["attention"])
    assert table["design"].tolist() == ["two-sample"] * 3 and (table["sd"] == 4).all()
    assert text.count("| full") == 1
