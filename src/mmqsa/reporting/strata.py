"""Overlap with objects by their size, their number in the image, and their class."""

from typing import Any

import numpy as np
import pandas as pd

from mmqsa.reporting.results import MISSING, SOURCES, UNSUPERVISED, Results
from mmqsa.reporting.statistics import FEWEST_SEEDS, over_seeds
from mmqsa.reporting.typeset import Printed, mean_sd, over_n_seeds

SIZES = [0, 1, 3, 10, 30, 100]  # % of the image that is not void
STRATA = {
    "size": ["≤ 1 %", "1–3 %", "3–10 %", "10–30 %", "> 30 %"],
    "number": ["1 object", "2 objects", "3 or more"],
}
COLUMNS = [
    *("kind", "label", "setting", "mask_source", "labels", "by", "stratum", "n_objects"),
    *("n_seeds", "mean", "sd", "ci_low", "ci_high"),
]


def strata_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """The mean over objects of the best slot's IoU, in percent, a row per stratum.

    ``labels`` says what an object is: a class's pixels in an image, or an instance's. The table's
    mask sources and first matching; baselines and controls below. A stratum without objects has no
    row.
    """
    table = strata_means(results)
    return table[COLUMNS], _printed(results, table)


def strata_means(results: Results) -> pd.DataFrame:
    """The rows of the table, with ``seeds``: the values of single seeds."""
    spec, runs = results.spec, _with_strata(results.runs("per_object"))
    references = _with_strata(results.references("per_object"))
    rows: list[dict[str, Any]] = []
    for source in spec.table.mask_sources:
        for setting in spec.table.settings:
            same = (runs["setting"] == setting) & (runs["mask_source"] == source)
            names = {"kind": "setting", "label": spec.label(setting)}
            names |= {"setting": setting, "mask_source": source}
            rows += _rows(runs[same], names)
    for kind in ("method", "supervised", "control"):
        of_kind = references[references["kind"] == kind]
        for name, group in of_kind.groupby("name", sort=False):
            rows += _rows(group.assign(seed=0), {"kind": kind, "label": name})
    return pd.DataFrame(rows, columns=[*COLUMNS, "seeds"])


def _with_strata(objects: pd.DataFrame) -> pd.DataFrame:
    """Objects with the strata that they belong to, in columns ``size``, ``number``, ``class``."""
    if objects.empty:
        return objects
    sizes = pd.cut(100 * objects["share"], SIZES, labels=STRATA["size"], include_lowest=True)
    keys = ["labels", "image_id", "setting", "seed", "mask_source", "name", "eval_seed"]
    keys = [key for key in keys if key in objects]
    number = objects.groupby(keys, sort=False, dropna=False)["iou"].transform("size")
    return objects.assign(size=sizes, number=np.array(STRATA["number"])[number.clip(1, 3) - 1])


def _rows(objects: pd.DataFrame, names: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for labels, group in objects.groupby("labels", sort=False) if len(objects) else []:
        for by, strata in (STRATA | {"class": sorted(group["class"].unique())}).items():
            groups = dict(list(group.groupby(by, observed=True)))
            for stratum in strata:
                if stratum not in groups:
                    continue
                row = {**names, "labels": labels, "by": by, "stratum": stratum}
                by_seed = groups[stratum].groupby("seed")["iou"]
                values = 100 * by_seed.mean()
                row |= {"n_objects": int(by_seed.size().iloc[0]), "n_seeds": len(values)}
                rows.append(row | {"seeds": values.tolist()} | over_seeds(values))
    return rows


def printed_labels(table: pd.DataFrame) -> str:
    """The labels that are printed and drawn: instances where there are any."""
    return "instance" if "instance" in set(table["labels"]) else "class"


def present(table: pd.DataFrame) -> dict[str, list[str]]:
    """The strata that have objects; all of them where there are no objects at all."""
    names = set(table["stratum"])
    return {
        by: [name for name in strata if name in names or not names] for by, strata in STRATA.items()
    }


def _printed(results: Results, table: pd.DataFrame) -> Printed:
    """Strata by class are in the csv alone."""
    spec = results.spec
    labels = printed_labels(table)
    shown = table[(table["labels"] == labels) & (table["by"] != "class")]
    sizes = shown.drop_duplicates("stratum").set_index("stratum")["n_objects"]
    headings = {
        name: f"{name} ({sizes.get(name, 0)})"
        for names in present(shown).values()
        for name in names
    }
    rows, groups, eligible = [], [], []
    compared: list[str | None] = []
    frame = shown.fillna({"mask_source": ""})
    for (kind, label, source), group in frame.groupby(["kind", "label", "mask_source"], sort=False):
        counted = kind == "setting" or label in results.methods
        n = str(int(group["n_seeds"].max())) if counted else ""
        row = {"": label, "mask source": SOURCES.get(source, ""), "n": n}
        for entry in group.to_dict("records"):
            row[headings[entry["stratum"]]] = mean_sd(entry["mean"], entry["sd"])
        rows.append(row)
        groups.append(f"{kind} {source} {counted}")
        several = group["n_seeds"].max() >= FEWEST_SEEDS
        eligible.append(several if counted else kind in UNSUPERVISED)
        compared.append(None if kind == "supervised" else "")
    for setting in spec.table.settings:
        if setting not in set(table["setting"]):
            missing = dict.fromkeys(headings.values(), MISSING)
            rows.append({"": spec.label(setting), "n": "0"} | missing)
            groups.append("missing")
            eligible.append(False)
            compared.append(None)
    what = "an instance" if labels == "instance" else "all pixels of a class in an image"
    caption = spec.caption(
        "IoU of the best slot, in percent, a mean over objects"
        f"{over_n_seeds(shown.loc[shown['kind'] == 'setting', 'n_seeds'])}. An object is {what}; "
        "the number of objects is in brackets.",
        results.credits,
    )
    heading = ["", "mask source", "n", *headings.values()]
    printed = Printed(caption, heading, rows, groups, left=2)
    if spec.table.references != "none":  # or what is better may be among those that are not read
        printed.embolden(list(headings.values()), compared, eligible)
    return printed
