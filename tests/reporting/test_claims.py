"""Verdicts on claims, from values that the tests choose."""

import pandas as pd
import pytest
from scipy.stats import ttest_ind

from mmqsa.config.tables import Claim
from mmqsa.reporting.claims import FEWEST_SEEDS, SPREAD, _verdict, assess

SEEDS = [0, 1, 2, 3]


def metrics(values):
    """{SETTING or SETTING/MATCHING: one value a seed} -> rows of one metric."""
    rows = [
        (name.partition("/")[0], name.partition("/")[2] or "hungarian", seed, value)
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows, columns=["setting", "matching", "seed", "value"])


def claim(*order, **other):
    return Claim(says="so", source="here", order=list(order), **other)


def test_two_settings_by_welch():
    values = {"a": [1.0, 2.0, 3.0], "b": [11.0, 12.0, 14.0]}
    result = assess(claim("a", "b"), metrics(values))
    assert result["difference"] == pytest.approx(37 / 3 - 2)
    assert result["p"] == pytest.approx(ttest_ind(values["b"], values["a"], equal_var=False).pvalue)


def test_two_matchings_of_the_same_runs_are_paired():
    """A gain that is small beside the spread over seeds, but there in every run."""
    values = {"a/greedy": [10.0, 20.0, 30.0, 40.0], "a": [11.0, 21.1, 31.0, 41.1]}
    result = assess(claim("a/greedy", "a"), metrics(values))
    assert result["test"] == "paired t" and result["p"] < 0.001
    same = assess(claim("a/greedy", "a"), metrics({"a/greedy": [1.0] * 3, "a": [1.0] * 3}))
    assert same["p"] == 1 and same["difference"] == 0


def test_a_trend_over_several_settings():
    rising = {name: [10.0 * rank + seed for seed in SEEDS] for rank, name in enumerate("abcd")}
    assert assess(claim(*"abcd"), metrics(rising))["p"] < 0.001
    assert assess(claim(*"dcba"), metrics(rising))["difference"] < 0
    flat = {name: [float(seed) for seed in SEEDS] for name in "abcd"}
    assert assess(claim(*"abcd"), metrics(flat))["p"] > 0.9


def test_a_trend_that_its_ends_contradict_is_none():
    values = {
        name: [10.0 * rank, 10.0 * rank + 1, 10.0 * rank + 2] for rank, name in enumerate("abcd")
    }
    values["a"] = [1000.0, 2.0, 3.0]  # one run out of the way: the mean, not the ranks
    result = assess(claim(*"abcd"), metrics(values))
    assert result["difference"] < 0 and result["p"] == 1


def test_spread_shrinks_along_the_order():
    values = {
        name: [50 + width * step for step in (-2, -1, 0, 1, 2)]
        for name, width in zip("abcd", (9.0, 5.0, 2.0, 0.5), strict=True)
    }
    result = assess(claim(*"abcd", of="spread"), metrics(values))
    assert result["difference"] > 0 and result["p"] < 0.001
    assert assess(claim(*"abcd"), metrics(values))["p"] > 0.5  # their means are alike
    backwards = assess(claim(*"dcba", of="spread"), metrics(values))
    assert backwards["difference"] < 0 and backwards["p"] == 1


def test_few_seeds_have_no_verdict():
    result = assess(
        claim("a", "b"), metrics({"a": [1.0, 2.0, 3.0], "b": [9.0] * (FEWEST_SEEDS - 1)})
    )
    assert result == {"n_seeds": FEWEST_SEEDS - 1, "verdict": "not enough runs"}
    assert assess(claim("a", "absent"), metrics({"a": [1.0] * 3}))["n_seeds"] == 0


VALUES = {"full": 60.0, "random": 40.0, "untrained": 60.0}  # ± 1.3 over seeds
CLAIMS = [
    {"says": "beats random", "source": "I", "order": ["random", "full"]},
    {"says": "beats nothing", "source": "I", "order": ["full", "random"]},
    {"says": "same", "source": "I", "order": ["untrained", "full"]},
    {"says": "never run", "source": "I", "order": ["late", "full"]},
    {"says": "CorLoc", "source": "summary", "order": ["full"]},
]


@pytest.fixture
def verdicts(made):
    """``verdicts(paper)``: the table of claims where the paper's CorLoc is ``paper``."""
    made.config |= {"seeds": SEEDS, "settings": {name: {} for name in (*VALUES, "late")}}
    for setting, mean in VALUES.items():
        for seed in SEEDS:
            made.metrics(setting, seed, made.scores(mean + seed - 1.5, "corloc", "mbo_c"))

    def make(paper):
        made.published = pd.DataFrame(
            [["paper", "MMQSA", "", "corloc", paper, "s"]],
            columns=["protocol", "method", "encoder", "metric", "value", "source"],
        )
        table, text = made.table(kind="claims", claims=CLAIMS, mask_sources=["decoder"])
        return table[table["metric"] == "corloc"].set_index("claim"), text

    return make


def test_verdicts(verdicts):
    table, text = verdicts(68.99)
    assert table["verdict"].to_dict() == {
        "beats random": "reproduced",
        "beats nothing": "opposite",
        "same": "no evidence",
        "never run": "not enough runs",
        "CorLoc": "not reached",  # 60 ± 2.05 does not reach it
    }
    assert "reproduced (+20.0, p < 0.001)" in text and "not reached (-9.0)" in text


def test_holms_correction_decides(verdicts):
    """Three tests on one metric: the corrected p of the least is three times as large."""
    table = verdicts(68.99)[0]
    raw = table.loc[["beats random", "beats nothing", "same"], "p"]
    corrected = table.loc[raw.index, "p_holm"]
    assert corrected["beats random"] == pytest.approx(3 * raw["beats random"], abs=1e-4)
    assert corrected["same"] == raw["same"] == 1
    assert table.loc[["never run", "CorLoc"], "p_holm"].isna().all()


@pytest.mark.parametrize(
    "p, p_holm, difference, verdict",
    [
        (0.01, 0.04, 1.0, "reproduced"),
        (0.01, 0.04, -1.0, "opposite"),
        (0.04, 0.08, 1.0, "weak evidence for"),
        (0.04, 0.08, -1.0, "weak evidence against"),
        (0.06, 0.06, 1.0, "no evidence"),
        (0.06, 0.06, -1.0, "no evidence"),
    ],
)
def test_a_p_before_correction_alone_is_weak_evidence(p, p_holm, difference, verdict):
    entry = {"p": p, "p_holm": p_holm, "difference": difference, "test": "tau", "n_seeds": 5}
    assert _verdict(entry) == verdict


def test_that_spread_differs_cannot_be_told_from_a_few_seeds():
    entry = {"p": 0.6, "p_holm": 0.6, "difference": 1.0, "test": SPREAD, "n_seeds": 5}
    assert _verdict(entry) == "not enough runs"
    assert _verdict(entry | {"n_seeds": 10}) == "no evidence"
    assert _verdict(entry | {"p": 0.01, "p_holm": 0.01}) == "reproduced"


@pytest.mark.parametrize(
    "paper, verdict",
    [(59.0, "reproduced"), (61.0, "reproduced"), (61.5, "not enough runs"), (63, "not reached")],
)
def test_the_papers_own_value_is_reached_or_not(verdicts, paper, verdict):
    """Ours is 60, and its interval ends at 62.05."""
    assert verdicts(paper)[0].loc["CorLoc", "verdict"] == verdict


def test_other_data_get_no_verdict_against_the_papers_numbers(verdicts, made):
    made.config["backbone"] = {"name": "vit_tiny_patch16_224"}
    row = verdicts(59.0)[0].loc["CorLoc"]
    assert row["verdict"] == "other data" and pd.isna(row["difference"])


def test_every_claim_says_by_which_score_its_settings_are_masked(made):
    """A claim of the paper is one of masking by the mean: what is masked otherwise says so."""
    masked = {"masking": {"score": "principal-component"}}
    made.config |= {
        "settings": {"full": {}, "sign-free": masked, "none": {"masking": {"strategy": "none"}}},
        "seeds": [0],
    }
    orders = [["none", "full"], ["none", "sign-free"], ["full", "sign-free"], ["none"]]
    claims = [
        {"says": str(number), "source": "Table I", "order": order}
        for number, order in enumerate(orders)
    ]
    made.metrics("full", 0, made.scores(50.0, "corloc"))
    table, text = made.table(kind="claims", claims=claims, mask_sources=["decoder"])
    ours = "principal component (ours)"
    assert table["masking"].fillna("").tolist() == [
        *("mean (the paper)", ours, f"mean (the paper) < {ours}", ""),
    ]
    assert table["source"].tolist() == ["Table I", "as Table I", "as Table I", "Table I"]
    assert "masked by" in text and "does not test the paper's own claim" in text
    made.config["settings"] = {"full": {}, "none": {"masking": {"strategy": "none"}}}
    plain = made.table(kind="claims", claims=claims[:1], mask_sources=["decoder"])[1]
    assert "mean (the paper)" in plain and "ours" not in plain
