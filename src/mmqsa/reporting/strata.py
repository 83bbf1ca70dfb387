"""How well objects are found by their size, their number in the image, and their class."""

from pathlib import Path

import numpy as np
import pandas as pd

from mmqsa.reporting.metrics_table import MISSING, caption
from mmqsa.reporting.results import Spec, reference_tables, run_tables
from mmqsa.reporting.statistics import over_seeds
from mmqsa.reporting.typeset import Printed

SIZES = [0, 1, 3, 10, 30, 100]  # % of the image that is not void
SIZE_NAMES = ["≤ 1 %", "1–3 %", "3–10 %", "10–30 %", "> 30 %"]
NUMBER_NAMES = ["1 object", "2 objects", "3 or more"]
COLUMNS = [
    *("kind", "label", "setting", "mask_source", "labels", "by", "stratum", "n_objects"),
    *("n_seeds", "mean", "sd", "ci_low", "ci_high"),
]


def strata_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """The mean over objects of the best slot's IoU, in percent, a row per stratum.

    ``labels`` says what an object is: a class's pixels in an image, or an instance's. A table's
    mask sources and first matching; other methods and controls beneath.
    """
    runs, others = (
        _with_strata(read(results, spec, "-per_object")) for read in (run_tables, reference_tables)
    )
    rows = []
    if len(runs):
        runs = runs[runs["mask_source"].isin(spec.table.mask_sources)]
        for (setting, source), group in runs.groupby(["setting", "mask_source"], sort=False):
            label = spec.table.labels.get(setting, setting)
            named = {"kind": "setting", "label": label, "setting": setting, "mask_source": source}
            rows += _rows(group, named)
    rows.sort(key=lambda row: spec.table.mask_sources.index(row["mask_source"]))
    if len(others):
        for name, group in others.groupby("name", sort=False):
            named = {"kind": group["kind"].iloc[0], "label": name}
            rows += _rows(group.assign(seed=0), named)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["kind"] = pd.Categorical(table["kind"], ["setting", "method", "supervised", "control"])
    table = table.sort_values("kind", kind="stable").astype({"kind": str})
    return table, _printed(spec, table)


def _with_strata(objects: pd.DataFrame) -> pd.DataFrame:
    """Objects with the strata that they belong to, in columns ``size``, ``number``, ``class``."""
    if "iou" not in objects:
        return pd.DataFrame()
    objects = objects.assign(
        size=pd.cut(100 * objects["share"], SIZES, labels=SIZE_NAMES, include_lowest=True)
    )
    names = ["labels", "image_id", "setting", "seed", "mask_source", "name", "eval_seed"]
    same = [name for name in names if name in objects]
    number = objects.groupby(same, sort=False, dropna=False)["iou"].transform("size")
    return objects.assign(number=np.array(NUMBER_NAMES)[number.clip(1, 3) - 1])


def _rows(objects: pd.DataFrame, named: dict) -> list[dict]:
    rows = []
    for labels, own in objects.groupby("labels", sort=False):
        for by, order in (
            ("size", SIZE_NAMES),
            ("number", NUMBER_NAMES),
            ("class", sorted(own["class"].unique())),
        ):
            groups = dict(list(own.groupby(by, observed=True)))
            for stratum in order:
                row = {**named, "labels": labels, "by": by, "stratum": stratum, "n_objects": 0}
                if stratum in groups:
                    by_seed = groups[stratum].groupby("seed")["iou"]
                    row |= {"n_objects": int(by_seed.size().iloc[0]), "n_seeds": by_seed.ngroups}
                    row |= over_seeds(100 * by_seed.mean())
                rows.append(row)
    return rows


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    """Instances where they are labelled, else classes; strata by class stand in the csv alone."""
    kinds = set(table["labels"])
    labels = "instance" if "instance" in kinds else "class"
    shown = table[(table["labels"] == labels) & (table["by"] != "class")]
    sizes = shown.drop_duplicates("stratum").set_index("stratum")["n_objects"]
    strata = [*SIZE_NAMES, *NUMBER_NAMES]
    heading = ["", "masks", "n", *(f"{name} ({sizes.get(name, 0)})" for name in strata)]
    rows, groups = [], []
    frame = shown.fillna({"mask_source": ""})
    for (kind, label, source), own in frame.groupby(["kind", "label", "mask_source"], sort=False):
        found = own.set_index("stratum")
        seeds = str(int(found["n_seeds"].max())) if kind == "setting" else ""
        rows.append([label, source, seeds, *(_cell(found, name) for name in strata)])
        groups.append(f"{kind} {source}")
    for setting in spec.table.settings:
        if setting not in set(table["setting"]):
            name = spec.table.labels.get(setting, setting)
            rows.append([name, "", "0", *[MISSING] * len(strata)])
            groups.append("missing")
    what = "an instance" if labels == "instance" else "all pixels of a class in an image"
    text = (
        f"{caption(spec)} Mean IoU of the best slot; an object is {what}; in brackets how many "
        "objects there are."
    )
    printed = Printed(text, heading, rows, groups, left=2)
    own = [name if name.startswith("setting") else "" for name in groups]
    printed.embolden(list(range(3, len(heading))), own)
    return printed


def _cell(found: pd.DataFrame, stratum: str) -> str:
    if stratum not in found.index or not found.loc[stratum, "n_objects"]:
        return ""
    mean, std = found.loc[stratum, ["mean", "sd"]]
    return f"{mean:.1f}" + ("" if np.isnan(std) else f" ± {std:.1f}")
