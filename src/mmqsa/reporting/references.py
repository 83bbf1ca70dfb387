"""Which baselines and controls a table lists: of every metric, at least the best."""

import numpy as np
import pandas as pd

from mmqsa.config.tables import METRICS
from mmqsa.reporting.results import Spec

# Kind of reference that sees no labels -> what the best of them is called.
BEST = {"method": "best without training", "control": "best control"}
NOTE = r" \((?:best|its best|as many as slots)[^()]*\)"  # why one is listed, after its name


def listed_references(spec: Spec, metrics: pd.DataFrame) -> dict[str, str]:
    """The baselines and controls to list, each with a note.

    All; or, metric by metric, the best method without training and the best control, and what sees
    labels; or also the variant of each method with the best mBO^c (else CorLoc), and k-means with
    as many clusters as slots. So no one that is left out is better than all that are listed. A
    method of other code is always listed, and stands in no one's place.
    """
    names = metrics.drop_duplicates("name").to_dict("records")
    if spec.table.references == "all" or metrics.empty:
        return {entry["name"]: "" for entry in names}
    other = metrics["seeds"].str.len() > 0
    listed = _chosen_references(spec, metrics[~other]) | dict.fromkeys(metrics[other]["name"], "")
    return {entry["name"]: listed[entry["name"]] for entry in names if entry["name"] in listed}


def _chosen_references(spec: Spec, metrics: pd.DataFrame) -> dict[str, str]:
    """The baselines and controls of mmqsa itself to list, each with a note."""
    if metrics.empty:
        return {}
    printed = metrics.drop_duplicates(["name", "metric"])
    notes = dict.fromkeys(printed[printed["kind"] == "supervised"]["name"], "")
    if spec.table.references == "best":
        judge = "mbo_c" if "mbo_c" in set(metrics["metric"]) else "corloc"
        judged = printed[(printed["metric"] == judge) & (printed["kind"] == "method")]
        variants = printed.groupby("method")["name"].nunique()
        for entry in judged.loc[judged.groupby("method")["value"].idxmax()].to_dict("records"):
            several = variants[entry["method"]] > 1
            notes[entry["name"]] = f" (its best {METRICS[judge]})" if several else ""
        as_slots = (printed["method"] == "kmeans") & (printed["num_slots"] == spec.num_slots)
        notes |= dict.fromkeys(printed[as_slots]["name"], " (as many as slots)")
    for kind, words in BEST.items():
        best = _best_by_metric(printed[printed["kind"] == kind])
        for name, headings in best.items():
            where = f": {', '.join(headings)}" if len(best) > 1 else ""
            note = "" if kind == "control" and spec.table.references == "best" else words + where
            notes.setdefault(name, f" ({note})" if note else "")
    return notes


def _best_by_metric(metrics: pd.DataFrame) -> dict[str, list[str]]:
    """As few as hold the highest value of every metric, each with the headings of its metrics.

    A metric that counts an IoU of exactly a half is left out where it is no other number.
    """
    wide = metrics.pivot_table(index="name", columns="metric", values="value", sort=False)
    names = [name for name in METRICS if name in wide]
    names = [name for name in names if not is_redundant(name, metrics, "value")]
    highest = wide[names] >= wide[names].max() - 1e-9
    found: dict[str, list[str]] = {}
    for metric in names:
        holders = highest.index[highest[metric]]
        holder = highest.loc[holders].sum(axis=1).idxmax()
        found.setdefault(holder, []).append(_brief(METRICS[metric]))
    return found


def _brief(heading: str) -> str:
    """A heading inside brackets."""
    return heading.removesuffix(" (with bg)").replace("(", "").replace(")", "")


def is_redundant(metric: str, table: pd.DataFrame, column: str = "mean") -> bool:
    """Whether a metric that counts an IoU of exactly a half equals the one that does not."""
    strict, values = (
        table[table["metric"] == name][column].dropna().to_numpy()
        for name in (metric.removesuffix("_or_equal"), metric)
    )
    return (
        metric.endswith("_or_equal") and len(strict) == len(values) and np.allclose(strict, values)
    )
