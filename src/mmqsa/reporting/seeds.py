"""How many seeds a difference of so many points needs, by the spread of the runs that there are."""

import math
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtri, ncfdtr, ndtri, stdtrit

from mmqsa.config.tables import METRICS
from mmqsa.reporting.results import MISSING, SOURCES, Results, of_first_protocol
from mmqsa.reporting.statistics import FEWEST_SEEDS
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("label", "against", "mask_source", "protocol", "metric", "design", "n_seeds", "sd"),
    *("sd_low", "sd_high", "difference", "seeds", "seeds_low", "seeds_high"),
]
DIFFERENCES = (1, 2, 5)  # points
LEVEL, POWER = 0.05, 0.8
MOST = 1000  # seeds
MOST_EFFECT = 30.0  # stds, which two seeds find in either design
POINTS = [f"{points} point{'s' * (points > 1)}" for points in DIFFERENCES]
DESIGNS = {"two-sample": "", "paired": ", paired"}
Row = dict[str, Any]


def seeds_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """A row per setting that is compared with the first, metric, design and difference in points.

    ``seeds`` are those of each setting that a t-test at LEVEL, two-sided, needs for POWER; infinite
    where MOST are not enough. Of two samples ``sd`` is pooled over both settings; paired, it is of
    the differences between runs of one seed. ``low`` and ``high`` are of its 95 % interval
    (chi-square). A table of one setting compares it with another that spreads alike.
    """
    spec, metrics = results.spec, results.run_metrics()
    metrics = metrics[metrics["matching"] == spec.table.matchings[0]]
    metrics = metrics[metrics["mask_source"].isin(spec.table.mask_sources)]
    rows: list[Row] = []
    for name in spec.table.settings[1:] or spec.table.settings:
        names = {"label": spec.label(name), "against": spec.label(spec.first)}
        for key, group in metrics.groupby(["mask_source", "protocol", "metric"], sort=False):
            by_setting = {
                setting: values.groupby("seed")["value"].mean()
                for setting, values in group.groupby("setting")
            }
            if {name, spec.first} <= set(by_setting):
                names |= dict(zip(("mask_source", "protocol", "metric"), key, strict=True))
                rows += [names | row for row in _rows(by_setting[spec.first], by_setting[name])]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table, _printed(results, table)


def _rows(first: pd.Series, other: pd.Series) -> list[Row]:
    """Of one metric of two settings, by seed: a row per design and difference."""
    differences, rows = (other - first).dropna(), []
    samples = {"two-sample": [first, other], "paired": [differences]}
    if other is first:
        samples = {"two-sample": [first]}
    for design, of_design in samples.items():
        row: Row = {"design": design, "n_seeds": min(map(len, of_design))}
        if row["n_seeds"] < FEWEST_SEEDS:
            rows.append(row)
            continue
        sd, low, high = pooled_sd(of_design)
        row |= {"sd": sd, "sd_low": low, "sd_high": high}
        for points in DIFFERENCES:
            needed = [seeds_needed(points, one, design) for one in (sd, low, high)]
            named = zip(("seeds", "seeds_low", "seeds_high"), needed, strict=True)
            rows.append(row | {"difference": points} | dict(named))
    return rows


def pooled_sd(samples: list[pd.Series]) -> tuple[float, float, float]:
    """The std of the mean of their variances, and its 95 % interval for normal values.

    Its degrees of freedom are Satterthwaite's (1946): samples need not spread alike.
    """
    variances = np.array([values.var(ddof=1) for values in samples])
    freedom = np.array([len(values) - 1 for values in samples])
    sd = math.sqrt(variances.mean())
    if sd == 0:
        return 0.0, 0.0, 0.0
    together = variances.sum() ** 2 / (variances**2 / freedom).sum()
    low, high = (sd * math.sqrt(together / chdtri(together, tail)) for tail in (0.025, 0.975))
    return sd, low, high


def power(effect: float, seeds: int, design: str) -> float:
    """How often so many seeds find a difference of ``effect`` stds."""
    paired = design == "paired"
    freedom = seeds - 1 if paired else 2 * seeds - 2
    shift = effect * math.sqrt(seeds if paired else seeds / 2)
    edge = stdtrit(freedom, 1 - LEVEL / 2)
    return float(1 - ncfdtr(1, freedom, shift**2, edge**2))  # t² has the noncentral F distribution


def seeds_needed(points: float, sd: float, design: str) -> float:
    """The fewest seeds with POWER, at least 2; infinite where MOST have less."""
    effect = min(points / sd, MOST_EFFECT) if sd else MOST_EFFECT
    normal = ((ndtri(1 - LEVEL / 2) + ndtri(POWER)) / effect) ** 2  # if the sd were known
    least = max(2, math.ceil(normal if design == "paired" else 2 * normal))
    enough = (seeds for seeds in range(least, MOST + 1) if power(effect, seeds, design) >= POWER)
    return next(enough, math.inf)


def _printed(results: Results, table: pd.DataFrame) -> Printed:
    spec, several = results.spec, len(results.spec.table.mask_sources) > 1
    headings = {
        design: [f"sd{by}", *map(f"{{}}{by}".format, POINTS)] for design, by in DESIGNS.items()
    }
    shown, _ = of_first_protocol(table)
    rows: list[dict[str, str]] = []
    groups: list[str] = []
    for name in spec.table.settings[1:] or spec.table.settings:
        label, of_setting = spec.label(name), shown[shown["label"] == spec.label(name)]
        for (source, metric), group in of_setting.groupby(["mask_source", "metric"], sort=False):
            row = {"": label + f", {SOURCES[source]}" * several, "metric": METRICS[metric]}
            row["n"] = str(group["n_seeds"].max())
            for design, cells in headings.items():
                entries = group[group["design"] == design]
                if len(entries):
                    row |= dict(zip(cells, _cells(entries), strict=True))
            rows.append(row)
        if of_setting.empty:
            rows.append({"": label, "n": "0"} | dict.fromkeys(chain(*headings.values()), MISSING))
        groups += [name] * (len(rows) - len(groups))
    caption = spec.caption(
        f"Seeds of each setting that a two-sided t-test at {LEVEL} needs for a power of {POWER} "
        f"where it really differs from {spec.label(spec.first)} by so many points, if runs spread "
        "as these do: with the standard deviation (sd, in points) pooled over both settings, or "
        "paired by seed, with that of their differences. In brackets: the same at the ends of the "
        "sd's 95 % interval (chi-square), which few seeds leave wide. With a correction for "
        "several comparisons it takes more."
    )
    heading = ["", "metric", "n", *chain(*headings.values())]
    return Printed(caption, heading, rows, groups, left=2)


def _cells(entries: pd.DataFrame) -> list[str]:
    """The sd and the seeds of every difference, each with what its interval makes of it."""
    sd, low, high = entries[["sd", "sd_low", "sd_high"]].iloc[0]
    if np.isnan(sd):
        return [""] * (1 + len(DIFFERENCES))
    cells = [f"{sd:.1f} ({low:.1f}–{high:.1f})"]
    for needed in entries[["seeds", "seeds_low", "seeds_high"]].to_numpy():
        best, fewest, most = (f"{one:,.0f}" if one <= MOST else f"> {MOST:,}" for one in needed)
        cells.append(f"{best} ({fewest}–{most})")
    return cells
