"""What the paper claims, held against these runs: a verdict for each, metric by metric."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, ttest_ind, ttest_rel

from mmqsa.config.tables import Claim
from mmqsa.reporting.metrics_table import caption
from mmqsa.reporting.results import HEADINGS, Spec, run_metrics
from mmqsa.reporting.statistics import holm, over_seeds
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("claim", "source", "mask_source", "protocol", "metric", "order", "n_seeds"),
    *("difference", "test", "p", "p_holm", "verdict"),
]
FEWEST_SEEDS = 3  # of each setting, for a verdict
NEAR = 1.0  # points below the paper's own value that still reproduce it
TOO_FEW, YES, NO, OPPOSITE = "not enough runs", "reproduced", "not reproduced", "contradicted"
SO, AGAINST = "tends to it", "tends against it"  # before the correction alone


def claims_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """A row per claim, mask source and metric.

    ``difference`` is the last of the order less the first, in points: of means over training seeds,
    or of deviations. p is two-sided, over training seeds: Welch's t, for two settings; the paired
    t, for two matchings of the same runs; Kendall's tau of value and rank, for more; and for
    spread the same tau of the distance from the setting's median, a rank version of Levene's test.
    ``p_holm`` is corrected over the claims on one mask source and metric, and decides: below 0.05
    reproduced or contradicted; where p alone is, it tends so.
    """
    metrics = run_metrics(results, spec)
    metrics = metrics[metrics["mask_source"].isin(spec.table.mask_sources)]
    scored = metrics[["protocol", "metric"]].drop_duplicates()
    scored = sorted(
        (pair for pair in scored.itertuples(index=False, name=None)),
        key=lambda pair: (pair[0] != "paper", list(HEADINGS).index(pair[1])),
    ) or [("paper", "corloc")]
    rows = []
    for claim, source, (protocol, metric) in product(
        spec.table.claims, spec.table.mask_sources, scored
    ):
        where = (metrics["mask_source"] == source) & (metrics["protocol"] == protocol)
        own = metrics[where & (metrics["metric"] == metric)]
        row = {"claim": claim.says, "source": claim.source, "mask_source": source}
        row |= {"protocol": protocol, "metric": metric, "order": " < ".join(claim.order)}
        if len(claim.order) == 1:
            rows.append(row | _against_paper(spec, claim, own, published, protocol, metric))
        else:
            rows.append(row | held(claim, own))
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, group in table.dropna(subset="p").groupby(["mask_source", "protocol", "metric"]):
        table.loc[group.index, "p_holm"] = holm(group["p"].tolist())
    for index, row in table[table["p_holm"].notna()].iterrows():
        table.loc[index, "verdict"] = _verdict(row["difference"] > 0, row["p"], row["p_holm"])
    return table, _printed(spec, table)


def _verdict(as_claimed: bool, p: float, p_holm: float) -> str:
    if p_holm < 0.05:
        return YES if as_claimed else OPPOSITE
    if p < 0.05:
        return SO if as_claimed else AGAINST
    return NO


def held(claim: Claim, metrics: pd.DataFrame) -> dict:
    """One claim on the values of one metric: ``n_seeds``, ``difference``, ``test`` and ``p``."""
    groups = [_values(metrics, name) for name in claim.order]
    fewest = min(map(len, groups))
    row = {"n_seeds": fewest, "verdict": TOO_FEW}
    if fewest < FEWEST_SEEDS:
        return row
    ranks = np.repeat(np.arange(len(groups)), [len(own) for own in groups])
    if claim.of == "spread":
        apart = np.concatenate([(own - own.median()).abs() for own in groups])
        row |= {"difference": groups[0].std(ddof=1) - groups[-1].std(ddof=1), "test": "tau, spread"}
        return row | {"p": _trend(ranks, -apart, row["difference"])}
    first, last = groups[0], groups[-1]
    row["difference"] = last.mean() - first.mean()
    if len(groups) > 2:
        return row | {"test": "tau", "p": _trend(ranks, np.concatenate(groups), row["difference"])}
    settings = {name.split("/")[0] for name in claim.order}
    if len(settings) == 1:  # the same runs, merged in two ways
        shared = first.index.intersection(last.index)
        if np.allclose(first[shared], last[shared]):
            return row | {"test": "paired t", "p": 1.0}
        return row | {"test": "paired t", "p": _p(ttest_rel(last[shared], first[shared]).pvalue)}
    return row | {"test": "Welch's t", "p": _p(ttest_ind(last, first, equal_var=False).pvalue)}


def _trend(ranks: np.ndarray, values: np.ndarray, difference: float) -> float:
    """p of a trend over ranks; 1 where it points the other way than the two ends do."""
    found = kendalltau(ranks, values)
    return 1.0 if found.statistic * difference < 0 else _p(found.pvalue)


def _values(metrics: pd.DataFrame, name: str) -> pd.Series:
    """One value a training seed of SETTING or SETTING/MATCHING."""
    setting, _, matching = name.partition("/")
    where = (metrics["setting"] == setting) & (metrics["matching"] == (matching or "hungarian"))
    return metrics[where].set_index("seed")["value"]


def _p(value: float) -> float:
    return 1.0 if np.isnan(value) else float(value)  # no variation at all


def _against_paper(
    spec: Spec,
    claim: Claim,
    metrics: pd.DataFrame,
    published: pd.DataFrame,
    protocol: str,
    metric: str,
) -> dict:
    """Is the mean as high as the paper's own value, or is that above its interval over seeds?"""
    own = _values(metrics, claim.order[0])
    known = published[(published["protocol"] == protocol) & (published["metric"] == metric)]
    if protocol != "paper" or known.empty:
        return {"n_seeds": len(own), "verdict": ""}
    if not spec.comparable:
        return {"n_seeds": len(own), "verdict": "other data"}
    if len(own) < FEWEST_SEEDS:
        return {"n_seeds": len(own), "verdict": TOO_FEW}
    value, found = known["value"].iloc[0], over_seeds(own)
    wide = found["ci_high"] >= value  # it could be reached, but these runs do not reach it
    verdict = YES if found["mean"] >= value - NEAR else (TOO_FEW if wide else NO)
    row = {"n_seeds": len(own), "difference": found["mean"] - value, "test": "95 % interval"}
    return row | {"verdict": verdict}


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    metrics = [name for name in HEADINGS if name in set(table["metric"])]
    heading = ["claim", "source", "masks", *(HEADINGS[name] for name in metrics)]
    rows, groups = [], []
    for (claim, where, source), own in table.groupby(
        ["claim", "source", "mask_source"], sort=False
    ):
        cells = [claim, where, source]
        for metric in metrics:
            entry = own[own["metric"] == metric]
            cells.append(_cell(entry.iloc[0]) if len(entry) else "")
        rows.append(cells)
        groups.append(claim)
    text = (
        f"{caption(spec)} Verdicts at p < 0.05 over training seeds, with Holm's correction over "
        "the claims (tends: before it alone); in brackets the difference in points that the claim "
        f"says is positive, and p before correction. Fewer than {FEWEST_SEEDS} seeds: no verdict."
    )
    return Printed(text, heading, rows, groups, left=3)


def _cell(entry: pd.Series) -> str:
    if np.isnan(entry["difference"]):
        return entry["verdict"]
    p = ", p < 0.001" if entry["p"] < 0.001 else f", p = {entry['p']:.3f}"
    return f"{entry['verdict']} ({entry['difference']:+.1f}{'' if np.isnan(entry['p']) else p})"
