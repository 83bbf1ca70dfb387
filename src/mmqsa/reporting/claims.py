"""The paper's claims tested on these runs: a verdict for each, metric by metric."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mmqsa.config.model import PAPERS_SCORE, score_name
from mmqsa.config.tables import METRICS, Claim
from mmqsa.reporting.results import SOURCES, Results, Spec
from mmqsa.reporting.statistics import FEWEST_SEEDS, holm, over_seeds, spread_p
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("claim", "source", "masking", "mask_source", "protocol", "metric", "order", "n_seeds"),
    *("difference", "test", "p", "p_holm", "verdict"),
]
FAMILY = ["mask_source", "protocol", "metric"]  # of tests that are corrected together
SPREAD = "spread, permuted"
NEAR = 1.0  # points below the paper's own value that still reproduce it
# Every verdict; docs/report.md says when each is given.
REPRODUCED, OPPOSITE, NO_EVIDENCE = "reproduced", "opposite", "no evidence"
WEAKLY_FOR, WEAKLY_AGAINST = "weak evidence for", "weak evidence against"
TOO_FEW, NOT_REACHED, OTHER_DATA = "not enough runs", "not reached", "other data"
# The test of spread finds a first of four settings that spreads three times as much as the last in
# 28 % of cases with 3 seeds and in 55 % with 5: that it finds nothing says nothing. With 10 it is
# 90 % (benchmarks/power.py).
SEEDS_FOR_SPREAD = 10


def claims_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """A row per claim, mask source and metric.

    ``difference`` is the last of the order less the first, in points: of means over training seeds,
    or of stds. p is over training seeds, two-sided: Welch's t, for two settings; the paired
    t, for two matchings of the same runs; Kendall's tau of value and rank, for more. Of spread it
    is one-sided, that of `spread_p`.
    ``p_holm`` is corrected over the claims on one mask source and metric, and decides: below 0.05
    reproduced or opposite; where p alone is, the evidence is weak; else there is none, or on spread
    with fewer than SEEDS_FOR_SPREAD seeds not enough runs. ``masking`` names the scores that the
    claim's settings hide patches by: only what is masked by the mean tests the paper's own words.
    """
    spec, metrics, published = results.spec, results.run_metrics(), results.published
    metrics = metrics[metrics["mask_source"].isin(spec.table.mask_sources)]
    scored = sorted(
        set(zip(metrics["protocol"], metrics["metric"], strict=True)) or [("paper", "corloc")],
        key=lambda pair: (pair[0] != "paper", list(METRICS).index(pair[1]), pair[0]),
    )
    rows = []
    for claim, source, names in product(spec.table.claims, spec.table.mask_sources, scored):
        row = {"claim": claim.says, "order": " < ".join(claim.order)}
        row["masking"] = _masking(spec, claim)
        row["source"] = _source(claim.source, row["masking"])
        row |= dict(zip(FAMILY, (source, *names), strict=True))
        values = metrics[(metrics[FAMILY] == [source, *names]).all(axis=1)]
        if len(claim.order) > 1:
            rows.append(row | assess(claim, values))
        else:
            papers = published[(published[FAMILY[1:]] == list(names)).all(axis=1)]
            papers = papers[papers["protocol"] == "paper"]["value"]
            rows.append(row | _reaches(spec, _values(values, claim.order[0]), papers))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = table.dropna(subset="p").groupby(FAMILY)["p"].transform(holm)
    tested = table[table["p_holm"].notna()]
    table.loc[tested.index, "verdict"] = [_verdict(entry) for entry in tested.to_dict("records")]
    return table, _printed(spec, table)


def _verdict(entry: dict[str, Any]) -> str:
    as_claimed = entry["difference"] > 0
    if entry["p_holm"] < 0.05:
        return REPRODUCED if as_claimed else OPPOSITE
    if entry["p"] < 0.05:
        return WEAKLY_FOR if as_claimed else WEAKLY_AGAINST
    open_spread = entry["test"] == SPREAD and entry["n_seeds"] < SEEDS_FOR_SPREAD
    return TOO_FEW if open_spread else NO_EVIDENCE


def _masking(spec: Spec, claim: Claim) -> str:
    """The masking scores of a claim's settings, in their order; empty where none hides by one."""
    settings = [name.split("/")[0] for name in claim.order]
    scores = dict.fromkeys(spec.scores[name] for name in settings if name in spec.scores)
    whose = {True: "the paper", False: "ours"}
    return " < ".join(f"{score_name(one)} ({whose[one == PAPERS_SCORE]})" for one in scores)


def _source(place: str, masking: str) -> str:
    """Where a claim is from; ``as Table I`` where its runs are not masked by the paper's score."""
    of_the_paper = place.startswith(("Table ", "summary"))
    return f"as {place}" if of_the_paper and "(ours)" in masking else place


def assess(claim: Claim, metrics: pd.DataFrame) -> dict[str, Any]:
    """One claim on the values of one metric: ``n_seeds``, ``difference``, ``test`` and ``p``."""
    groups = [_values(metrics, name) for name in claim.order]
    first, last = groups[0], groups[-1]
    row: dict[str, Any] = {"n_seeds": min(map(len, groups)), "verdict": TOO_FEW}
    if row["n_seeds"] < FEWEST_SEEDS:
        return row
    if claim.of == "spread":
        row |= {"difference": first.std(ddof=1) - last.std(ddof=1), "test": SPREAD}
        falls = row["difference"] > 0  # else the ends contradict whatever lies between them
        return row | {"p": float(spread_p([*map(np.asarray, groups)])) if falls else 1.0}
    row["difference"] = last.mean() - first.mean()
    if len(groups) > 2:
        return row | {"test": "tau", "p": _trend(groups, row["difference"])}
    if len({name.split("/")[0] for name in claim.order}) > 1:
        return row | {
            "test": "Welch's t",
            "p": _p(scipy.stats.ttest_ind(last, first, equal_var=False)),
        }
    shared = first.index.intersection(last.index)  # the same runs under two matchings
    alike = np.allclose(first[shared], last[shared])
    return row | {
        "test": "paired t",
        "p": 1.0 if alike else _p(scipy.stats.ttest_rel(last[shared], first[shared])),
    }


def _trend(groups: list[pd.Series], difference: float) -> float:
    """p of a trend over the groups; 1 where it points the other way than the two ends do."""
    ranks = np.repeat(np.arange(len(groups)), [len(values) for values in groups])
    tau = scipy.stats.kendalltau(ranks, np.concatenate(groups))
    return 1.0 if tau.statistic * difference < 0 else _p(tau)


def _values(metrics: pd.DataFrame, name: str) -> pd.Series:
    """One value a training seed of SETTING or SETTING/MATCHING."""
    setting, _, matching = name.partition("/")
    same = (metrics["setting"] == setting) & (metrics["matching"] == (matching or "hungarian"))
    return metrics[same].set_index("seed")["value"]


def _p(test) -> float:
    return 1.0 if np.isnan(test.pvalue) else float(test.pvalue)  # NaN: no variation at all


def _reaches(spec: Spec, values: pd.Series, published: pd.Series) -> dict[str, Any]:
    """Whether the mean reaches the paper's value, or at least its interval over seeds does."""
    row: dict[str, Any] = {"n_seeds": len(values), "verdict": TOO_FEW}
    if published.empty:
        return row | {"verdict": ""}
    if not spec.comparable:
        return row | {"verdict": OTHER_DATA}
    if len(values) < FEWEST_SEEDS:
        return row
    papers, ours = published.iloc[0], over_seeds(values)
    row |= {"difference": ours["mean"] - papers, "test": "95 % interval"}
    if ours["mean"] >= papers - NEAR:
        return row | {"verdict": REPRODUCED}
    return row if ours["ci_high"] >= papers else row | {"verdict": NOT_REACHED}


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    headings = [METRICS[name] for name in METRICS if name in set(table["metric"])]
    rows = []
    for (claim, paper, masking, source), group in table.groupby(COLUMNS[:4], sort=False):
        entries = group.drop_duplicates("metric").to_dict("records")
        row = {"claim": claim, "source": paper, "masked by": masking}
        row["mask source"] = SOURCES[source]
        rows.append(row | {METRICS[entry["metric"]]: _cell(entry) for entry in entries})
    caption = spec.caption(
        "Verdicts at p < 0.05 over training seeds, with Holm's correction over the claims (weak "
        f"evidence: before the correction only; {OPPOSITE}: significant, the other way; "
        f"{NO_EVIDENCE}: not told from no difference). In brackets: the difference in points that "
        f"the claim says is positive, and p before correction. Fewer than {FEWEST_SEEDS} seeds: no "
        "verdict.",
        "A row that is masked by a score of ours does not test the paper's own claim."
        * any(score != PAPERS_SCORE for score in spec.scores.values()),
        "p of spread is one-sided, by permutation."
        * any(claim.of == "spread" for claim in spec.table.claims),
    )
    heading = ["claim", "source", "masked by", "mask source", *headings]
    groups = [f"{row['claim']}, {row['masked by']}" for row in rows]
    return Printed(caption, heading, rows, groups, left=4)


def _cell(entry: dict[str, Any]) -> str:
    if np.isnan(entry["difference"]):
        return entry["verdict"]
    p = "p < 0.001" if entry["p"] < 0.001 else f"p = {entry['p']:.3f}"
    numbers = [f"{entry['difference']:+.1f}", *([] if np.isnan(entry["p"]) else [p])]
    return f"{entry['verdict']} ({', '.join(numbers)})"
