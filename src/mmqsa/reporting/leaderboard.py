"""The leaderboard: all that is scored on the same images, best first, tested in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmqsa.config.files import quoted
from mmqsa.config.tables import METRICS, pack, unpack
from mmqsa.errors import InputError
from mmqsa.reporting.kinds import KINDS, kinds_of
from mmqsa.reporting.references import listed_references
from mmqsa.reporting.results import MISSING, SOURCES, Results
from mmqsa.reporting.statistics import holm, over_seeds, paired_p, resampled_means
from mmqsa.reporting.typeset import Printed, over_n_seeds

COLUMNS = [
    *("kind", "label", "mask_source", "against", "protocol", "metric", "n_seeds", "mean", "sd"),
    *("difference", "low", "high", "p", "p_holm", "n_images"),
]
LEVEL = 0.05
TIED = " ≈"  # after a mean that is not told apart from the best
ABOUT = (
    "with the 95 % bootstrap interval of the mean over images. Bold: the highest mean, but for "
    "rows that see labels; ≈: not told apart from the highest here (p ≥ 0.05: Wilcoxon's "
    "signed-rank test on the same images, or McNemar's for hits and misses, with Holm's correction "
    "over all {pairs} pairs of a metric). Intervals and tests are over images, of these runs: "
    "another training may change the order."
)
NOT_BOLD = "Not bold, because something that is not listed is higher, or was not read: {metrics}."
Row = dict[str, Any]


@dataclass
class Entry:
    """One row: its values in percent by image (rows) and metric (columns), means over seeds."""

    kind: str
    label: str
    mask_source: str = ""
    images: pd.DataFrame | None = None
    """None: a setting without runs"""
    seeds: pd.DataFrame | None = None
    """means of single seeds; None where there are none, as of a baseline"""
    path: Path | None = None
    """one of its files, for messages"""

    def names(self) -> Row:
        return {"kind": self.kind, "label": self.label, "mask_source": self.mask_source}


@dataclass
class Board:
    """Rows in the order of print, and what tables and figures say of them."""

    entries: list[Entry]
    table: pd.DataFrame
    """tidy, by COLUMNS: the mean of each row, with an empty ``against``; and the difference of each
    pair, the higher one in the order of print less the lower"""
    judge: str
    """the metric that orders the rows"""
    printed: dict[str, str]
    """metric -> the protocol that is printed and drawn"""
    beaten: list[str]
    """metrics in which something better is scored on these images, and not among the entries"""

    def means(self, metric: str) -> pd.DataFrame:
        """The rows of a printed metric by ``label``; ``best`` and ``tied`` with it."""
        of_metric = self.table[
            (self.table["metric"] == metric) & (self.table["protocol"] == self.printed[metric])
        ]
        own = of_metric[of_metric["against"] == ""].set_index("label", drop=False)
        pairs = of_metric[(of_metric["against"] != "") & (of_metric["p_holm"] >= LEVEL)]
        without_labels = own["kind"] != "supervised"
        best = own["mean"].where(without_labels).idxmax() if without_labels.any() else None
        like_best = {*pairs.loc[pairs["label"] == best, "against"]}
        like_best |= {*pairs.loc[pairs["against"] == best, "label"]}
        tied = own["label"].isin(like_best) & without_labels
        return own.assign(best=own["label"] == best, tied=tied)


def leaderboard_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """The tidy table of a Board, and its rows as they are printed; see `board`."""
    found = board(results)
    return found.table, printed_board(results, found)


def board(results: Results, metric: str = "", only: Sequence[str] = ()) -> Board:
    """All settings of the table, baselines, methods of other code and controls, best first.

    ``metric`` orders them; without one mBO^c, else CorLoc, else the first. ``only`` are the labels
    of those to compare; empty: all. An image's value is its mean over seeds, so intervals and tests
    are over images. Raises InputError where two rows are of other images, the metric is scored
    nowhere, or there is no such row.
    """
    entries = _entries(results)
    if unknown := [label for label in only if label not in {entry.label for entry in entries}]:
        known = ", ".join(entry.label for entry in entries)
        raise InputError(f"--row {unknown[0]}: no such row; there is: {known}")
    left_out = [entry for entry in entries if only and entry.label not in only]
    entries = [entry for entry in entries if not only or entry.label in only]
    scored = [entry for entry in entries if entry.images is not None]
    _check_images(scored)
    named = [list(entry.images) for entry in scored if entry.images is not None]
    columns = unpack(dict.fromkeys(chain(*named)))
    columns = {column: pair for column, pair in columns.items() if pair[1] in METRICS}
    protocols = next(iter(results.spec.protocols.values()))
    printed: dict[str, str] = {}
    for protocol, name in sorted(columns.values(), key=lambda pair: protocols.index(pair[0])):
        printed.setdefault(name, protocol)
    printed = {name: printed[name] for name in METRICS if name in printed}
    if metric and metric not in printed:
        expected = ", ".join(printed) or "nothing is scored"
        raise InputError(f"--metric {metric}: not scored on these images; expected {expected}")
    usual = next((name for name in ("mbo_c", "corloc", *printed) if name in printed), "")
    judge = metric or usual
    if scored:
        column = next(c for c, pair in columns.items() if pair == (printed[judge], judge))
        entries.sort(key=partial(_place, column))
    rows = [row for column in columns for row in _compared(entries, column, *columns[column])]
    beaten = [name for name in printed if _is_beaten(entries, left_out, pack(printed[name], name))]
    if results.spec.table.references == "none":
        beaten = list(printed)  # for all that is known
    return Board(entries, pd.DataFrame(rows, columns=COLUMNS), judge, printed, beaten)


def _is_beaten(entries: Sequence[Entry], left_out: Sequence[Entry], column: str) -> bool:
    """Whether the highest mean of what sees no labels is one of those that are left out."""
    highest = []
    for several in (entries, left_out):
        images = [one.images for one in several if one.kind != "supervised"]
        means = [one[column].mean() for one in images if one is not None and column in one]
        highest.append(max(means, default=-np.inf))
    return highest[1] > highest[0]


def _place(column: str, entry: Entry) -> tuple[bool, float]:
    """Best first, and last what has no value."""
    unknown = entry.images is None or column not in entry.images
    return unknown, 0.0 if unknown or entry.images is None else -entry.images[column].mean()


def _entries(results: Results) -> list[Entry]:
    spec, runs = results.spec, results.runs("per_image")
    images = next(iter(spec.images.values()))[0]
    several, entries = len(spec.table.mask_sources) > 1, []
    for source in spec.table.mask_sources:
        for setting in spec.table.settings:
            label = spec.label(setting) + f", {SOURCES[source]}" * several
            entry = Entry("setting", label, source)
            if len(runs):
                same = (runs["setting"] == setting) & (runs["mask_source"] == source)
                rows = runs[same & (runs["matching"] == spec.table.matchings[0])]
                if len(rows):
                    entry.images, entry.seeds = _means(rows, "image_id"), _means(rows, "seed")
                    seed = rows["seed"].iloc[0]
                    entry.path = results.paths.metrics(setting, seed, images, "per_image")
            entries.append(entry)
    references, means = results.references("per_image"), results.reference_metrics()
    for name, note in listed_references(spec, means).items():
        rows = references[references["name"] == name]
        method = means.loc[means["name"] == name, "method"].iloc[0]
        place = results.paths.method if name in results.methods else results.paths.reference
        path = place(images, method, "per_image")
        if rows.empty:
            raise InputError(
                f"{path}: missing, though {place(images, method).name} beside it has {quoted(name)}"
                f"; restore it, or score again: {_how_to_score(results, name, method)}"
            )
        first = rows.iloc[0]
        entry = Entry(first["kind"], name + note, "", _means(rows, "image_id"), path=path)
        if name in results.methods:
            entry.seeds = _means(rows, "eval_seed")
            if entry.label in {other.label for other in entries}:
                path = results.paths.methods / f"{first['method']}.yaml"
                raise InputError(f"{path}: title: {quoted(name)} is a setting here; choose another")
        entries.append(entry)
    return entries


def _how_to_score(results: Results, name: str, method: str) -> str:
    """What makes the scores of a reference again."""
    if name in results.methods:
        return f"`mmqsa score --name {method}`"
    if method == "controls":
        return "`mmqsa score` of any method makes them, or the workflow"
    return f"`mmqsa baseline --method {method}`, or the workflow"


def _means(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means of every metric in percent; a metric that a file does not have is left out."""
    return 100 * rows.groupby(by, sort=True)[list(unpack(rows))].mean().dropna(axis=1, how="all")


def _check_images(entries: Sequence[Entry]) -> None:
    """Raises InputError where an entry is of other images than the first: no mean compares."""
    for entry in entries[1:]:
        one, other = entries[0].images, entry.images
        if one is not None and other is not None and not one.index.equals(other.index):
            raise InputError(
                f"{entry.path}: {len(other)} images, which are not the {len(one)} of "
                f"{entries[0].path}; score all on the same images"
            )


def _compared(entries: list[Entry], column: str, protocol: str, metric: str) -> list[Row]:
    """The rows of a metric: of every entry that has it, then of every pair of them.

    Over the images where all of them have a value: an image without objects has no mBO.
    """
    members = [one for one in entries if one.images is not None and column in one.images]
    values = np.column_stack([one.images[column] for one in members if one.images is not None])
    values = values[np.isfinite(values).all(axis=1)]
    shared = {"protocol": protocol, "metric": metric, "n_images": len(values)}
    if not len(values):
        return []
    drawn = resampled_means(values)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    rows = []
    for index, one in enumerate(members):
        row = {**one.names(), "against": "", **shared, "low": low[index], "high": high[index]}
        if one.seeds is not None:
            spread = over_seeds(one.seeds[column].dropna())
            row |= {"n_seeds": len(one.seeds), "sd": spread.get("sd")}
        rows.append(row | {"mean": values[:, index].mean()})
    first, second = np.triu_indices(len(members), 1)
    differences = values[:, first] - values[:, second]
    low, high = np.percentile(drawn[:, first] - drawn[:, second], [2.5, 97.5], axis=0)
    hit = np.asarray(np.isin(values, [0, 100]).all(axis=0))
    p = paired_p(differences, hit[first] & hit[second])
    found = {"difference": differences.mean(axis=0), "low": low, "high": high, "p": p}
    found["p_holm"] = holm(p)
    for pair, (higher, lower) in enumerate(zip(first, second, strict=True)):
        names = {**members[higher].names(), "against": members[lower].label}
        rows.append(names | shared | {name: numbers[pair] for name, numbers in found.items()})
    return rows


def kind_words(results: Results, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Of every entry one of KINDS, and what that is called."""
    table = pd.DataFrame([entry.names() for entry in entries], columns=["kind", "label"])
    kinds = kinds_of(results, table)
    sources = [entry.mask_source or kind for entry, kind in zip(entries, kinds, strict=True)]
    return [(kind, KINDS[kind][0]) for kind in sources]


def printed_board(results: Results, found: Board) -> Printed:
    """The rows as they are printed, best and ties marked in each metric."""
    spec, own = results.spec, found.table[found.table["against"] == ""]
    means = {name: found.means(name) for name in found.printed}
    metrics = list(found.printed) or ["mbo_c"]  # in which all is missing
    beaten = [METRICS[name] for name in found.beaten]
    rows, words = [], kind_words(results, found.entries)
    for entry, (_, kind) in zip(found.entries, words, strict=True):
        row = {"": entry.label, "kind": kind}
        if entry.images is None:
            row |= {"n": "0"} | {METRICS[name]: MISSING for name in metrics}
        if entry.seeds is not None:
            row["n"] = str(len(entry.seeds))
        for name, of_metric in means.items():
            if entry.images is not None and entry.label in of_metric.index:
                row[METRICS[name]] = _cell(of_metric.loc[entry.label].to_dict())
        rows.append(row)
    number = sum(entry.images is not None for entry in found.entries)
    caption = spec.caption(
        f"In percent{over_n_seeds(own['n_seeds'])}, "
        + ABOUT.format(pairs=f"{number * (number - 1) // 2:,}"),
        NOT_BOLD.format(metrics=", ".join(beaten)) if beaten else "",
        f"Sorted by {METRICS[found.judge]}." if found.judge else "",
        _protocols(found.printed),
        f"{spec.table.matchings[0].capitalize()} matching of the heads." * bool(spec.first),
        results.credits,
    )
    heading = ["", "kind", "n", *(METRICS[name] for name in metrics)]
    printed = Printed(caption, heading, rows, ["all"] * len(rows), left=2)
    for name, of_metric in means.items():
        rounded = of_metric["mean"].round(1)  # as it is printed: what looks alike is bold alike
        highest = rounded == rounded[of_metric["best"]].max()
        bold = of_metric.loc[highest & (of_metric["kind"] != "supervised"), "label"]
        printed.bold[METRICS[name]] = printed.cells[""].isin(bold) & (name not in found.beaten)
    return printed


def _protocols(printed: dict[str, str]) -> str:
    """Which protocol each metric is by, in words."""
    by_protocol: dict[str, list[str]] = {}
    for metric, protocol in printed.items():
        by_protocol.setdefault(protocol, []).append(METRICS[metric])
    words = [f"{protocol} ({', '.join(names)})" for protocol, names in by_protocol.items()]
    return f"Protocol{'s' * (len(words) > 1)}: {'; '.join(words)}." if words else ""


def _cell(entry: Row) -> str:
    sd = "" if pd.isna(entry["sd"]) else f" ± {entry['sd']:.1f}"
    interval = f" [{entry['low']:.1f}, {entry['high']:.1f}]"
    return f"{entry['mean']:.1f}{sd}{interval}{TIED * bool(entry['tied'])}"
