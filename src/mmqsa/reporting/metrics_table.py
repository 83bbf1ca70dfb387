"""Tables of metrics: settings over seeds, other methods on the same keys, published numbers."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mmqsa.evaluation.metrics import pack, unpack
from mmqsa.reporting.results import (
    HEADINGS,
    Spec,
    provenance,
    reference_metrics,
    run_metrics,
    run_tables,
)
from mmqsa.reporting.statistics import bootstrap_interval, over_seeds
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("kind", "label", "setting", "row", "matching", "mask_source", "protocol", "metric"),
    *("n_seeds", "mean", "sd", "ci_low", "ci_high", "eval_sd", "images_low", "images_high"),
    *("n_images", "updates_per_head", "published", "published_source", "difference"),
]
MISSING = "missing"


def metrics_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """One row per printed row and metric, in the order of print (COLUMNS), values in percent.

    ``sd`` is the sample std over training seeds, ``ci`` Student's 95 % interval of their
    mean; both are empty for a single seed. ``eval_sd`` is the std over evaluation seeds, mean
    over runs. ``images`` is the bootstrap's 95 % interval of the mean over images, of rows that
    show one image set. A setting without runs has ``n_seeds`` 0.
    """
    rows = _own_rows(spec, results, published)
    rows += _reference_rows(spec, reference_metrics(results, spec))
    known = {row["metric"] for row in rows}
    for entry in published[published["protocol"].isin(spec.table.published)].to_dict("records"):
        # A metric that these labels do not allow would stand beside nothing.
        if entry["metric"] in known:
            encoder = f" ({entry['encoder']})" if isinstance(entry["encoder"], str) else ""
            rows.append(
                {
                    "kind": "published",
                    "label": entry["method"] + encoder,
                    **{name: entry[name] for name in ("protocol", "metric")},
                    "published": entry["value"],
                    "published_source": entry["source"],
                }
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table, _printed(spec, table)


def sweep_table(spec: Spec, results: Path, published: pd.DataFrame) -> tuple[pd.DataFrame, Printed]:
    """The same with a row for every number of slots and of iterations at evaluation."""
    found = run_tables(results, spec, "-sweep")
    rows = []
    if len(found):
        names = ["mask_source", "setting", "slots", "iterations", "protocol", "metric"]
        for key, group in found.groupby(names, sort=False):
            named = dict(zip(names, key, strict=True))
            label = spec.table.labels.get(named["setting"], named["setting"])
            label = f"{label}, K = {named['slots']}, T = {named['iterations']}"
            by_seed = group.groupby("seed")["value"].mean()
            values = {"n_seeds": len(by_seed), "n_images": group["n_images"].iloc[0]}
            rows.append({"kind": "setting", "label": label} | named | values | over_seeds(by_seed))
    absent = [name for name in spec.table.settings if name not in {row["setting"] for row in rows}]
    for setting in absent:
        row = {"kind": "setting", "label": spec.table.labels.get(setting, setting)}
        row |= {"setting": setting, "mask_source": spec.table.mask_sources[0], "n_seeds": 0}
        rows.append(row | {"protocol": "paper", "metric": "corloc"})
    rows += _reference_rows(spec, reference_metrics(results, spec))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "slots", "iterations"])
    wanted = table["mask_source"].isin(spec.table.mask_sources) | (table["kind"] != "setting")
    return table, _printed(spec, table[wanted])


def _own_rows(spec: Spec, results: Path, published: pd.DataFrame) -> list[dict]:
    """Mask source by mask source, a row per setting, image set, matching and metric."""
    table, several = spec.table, len(spec.table.matchings) > 1
    metrics = run_metrics(results, spec)
    per_image = _per_image(spec, results)
    names = ["setting", "row", "matching", "mask_source", "protocol", "metric"]
    groups = dict(list(metrics.groupby(names)))
    scored = metrics[["row", "protocol", "metric"]].drop_duplicates()
    allowed = {
        row: sorted(
            own[["protocol", "metric"]].itertuples(index=False, name=None),
            key=lambda name: list(HEADINGS).index(name[1]),
        )
        for row, own in scored.groupby("row")
    }
    nothing = [("paper", name) for name in ("corloc", "miou_with_background", "mbo_c")]
    sources = [own for own in table.mask_sources if own in set(metrics["mask_source"])]
    rows = []
    for source, setting, images, matching in product(
        sources or table.mask_sources[:1], table.settings, spec.images, table.matchings
    ):
        if (source, matching) == ("decoder-masks", "none"):
            continue  # the same as decoder
        called = matching if several else setting
        label = ", ".join(filter(None, [table.labels.get(called, called), images]))
        updates = _updates(results, setting, spec.seeds)
        for protocol, metric in allowed.get(images, nothing):
            key = (setting, images, matching, source, protocol, metric)
            row = {"kind": "setting", "label": label, "updates_per_head": updates}
            row |= dict(zip(names, key, strict=True)) | _values(groups.get(key))
            images_of = per_image.get(key[:4])
            if images_of is not None and row["n_seeds"]:
                values = 100 * images_of[pack(protocol, metric)].to_numpy()
                row["images_low"], row["images_high"] = bootstrap_interval(values)
            if setting == spec.showcase and matching == "hungarian":
                row |= _against_paper(spec, row, published)
            rows.append(row)
    return rows


def _per_image(spec: Spec, results: Path) -> dict[tuple, pd.DataFrame]:
    """Means over seeds of every image, by setting, row, matching and mask source."""
    single = {row: own for row, own in spec.images.items() if len(own) == 1}
    found = run_tables(results, spec.model_copy(update={"images": single}), "-per_image")
    names = ["setting", "row", "matching", "mask_source"]
    columns = list(unpack(found))
    if not columns:
        return {}
    means = found.groupby([*names, "image_id"], sort=False)[columns].mean().reset_index()
    return dict(list(means.groupby(names, sort=False)))


def _updates(results: Path, setting: str, seeds: list[int]) -> float:
    """Mean number of updates of a head, over heads and the runs that are there."""
    found = [provenance(results, setting, seed).get("updates_per_head") for seed in seeds]
    means = [np.mean(own) for own in found if own]
    return float(np.mean(means)) if means else float("nan")


def _values(values: pd.DataFrame | None) -> dict:
    """The spread of one metric's rows, one per seed; None: no runs."""
    if values is None:
        return {"n_seeds": 0}
    counts = {"n_seeds": len(values), "n_images": int(values["n_images"].iloc[0])}
    return counts | over_seeds(values["value"]) | {"eval_sd": values["eval_sd"].mean()}


def _against_paper(spec: Spec, row: dict, published: pd.DataFrame) -> dict:
    """The paper's own value of this metric; the difference only where the data are the paper's."""
    same = (published["protocol"] == "paper") & (published["metric"] == row["metric"])
    if row["protocol"] != "paper" or not same.any():
        return {}
    entry = published[same].iloc[0]
    found = {"published": entry["value"], "published_source": entry["source"]}
    if spec.comparable and row["n_seeds"]:
        found["difference"] = row["mean"] - entry["value"]
    return found


def _reference_rows(spec: Spec, metrics: pd.DataFrame) -> list[dict]:
    """Other methods, what is supervised, and every control, for each row of images."""
    rows = []
    for images in spec.images:
        own = metrics[metrics["row"] == images]
        for name, note in _shown(spec, own).items():
            for entry in own[own["name"] == name].to_dict("records"):
                rows.append(
                    {
                        "kind": entry["kind"],
                        "label": ", ".join(filter(None, [name + note, images])),
                        **{key: entry[key] for key in ("row", "protocol", "metric", "n_images")},
                        "mean": entry["value"],
                        "eval_sd": entry["eval_sd"],
                    }
                )
    order = ["method", "supervised", "control"]
    return sorted(rows, key=lambda row: order.index(row["kind"]))


def _shown(spec: Spec, metrics: pd.DataFrame) -> dict[str, str]:
    """What stands beneath a table, and a note: all; or of each method what has the best mBO^c (or
    CorLoc), k-means with as many clusters as slots, and every control that is best in a metric.
    """
    every = dict.fromkeys(metrics["name"].unique(), "")
    if spec.table.references == "all" or metrics.empty:
        return every
    best = metrics.loc[metrics.groupby(["method", "protocol", "metric"])["value"].idxmax()]
    judge = "mbo_c" if "mbo_c" in set(metrics["metric"]) else "corloc"
    leading = best[(best["kind"] == "control") | (best["metric"] == judge)]
    shown = {}
    for name in every:
        rows = metrics[metrics["name"] == name]
        if rows["method"].iloc[0] == "kmeans" and rows["slots"].iloc[0] == spec.slots:
            shown[name] = " (as many as slots)"
        elif name in set(leading["name"]):
            several = metrics[metrics["method"] == rows["method"].iloc[0]]["name"].nunique() > 1
            shown[name] = " (its best)" if several and rows["kind"].iloc[0] == "method" else ""
    return shown


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    """A row is a (kind, label, mask source)."""
    metrics = [name for name in HEADINGS if name in set(table["metric"])]
    metrics = [name for name in metrics if not _says_the_same(name, table)]
    updates = ["updates per head"] if spec.table.updates else []
    heading = ["", "masks", "n", *updates, *(HEADINGS[name] for name in metrics)]
    rows, kinds, compared = [], [], []
    frame = table.fillna({"mask_source": ""})
    for (kind, label, source), group in frame.groupby(["kind", "label", "mask_source"], sort=False):
        first = group.iloc[0]
        where = f"{first['protocol']} protocol" if kind == "published" else source
        cells = [label, where, "" if np.isnan(first["n_seeds"]) else str(int(first["n_seeds"]))]
        if updates:
            number = first["updates_per_head"]
            cells.append("" if np.isnan(number) else f"{number:,.0f}")
        own = [group[group["metric"] == metric] for metric in metrics]
        # mBO^c is one number under both protocols
        entries = [entry.iloc[0] if len(entry) else None for entry in own]
        for note, show in (("", _cell), *_below(spec, kind)):
            shown = ["" if entry is None else show(entry) for entry in entries]
            if any(shown):
                rows.append([note, "", *[""] * (len(cells) - 2), *shown] if note else cells + shown)
                kinds.append(f"{kind} {source}")
                own_kind = kind == "setting" and not note
                compared.append(f"{source}, {first['row']}" if own_kind else "")
    printed = Printed(caption(spec), heading, rows, kinds, left=2)
    printed.embolden(list(range(len(heading) - len(metrics), len(heading))), compared)
    return printed


def _below(spec: Spec, kind: str) -> list[tuple[str, Callable[[pd.Series], str]]]:
    """What stands beneath a row: its interval, and how far it is from the paper's own value."""
    if kind != "setting":
        return []
    rows = [("  95 % interval", _interval)] if spec.table.intervals else []
    return [*rows, ("  against the paper", _difference)] if spec.comparable else rows


def _interval(entry: pd.Series) -> str:
    if np.isnan(entry["ci_low"]):
        return ""
    return f"[{entry['ci_low']:.1f}, {entry['ci_high']:.1f}]"


def _difference(entry: pd.Series) -> str:
    if np.isnan(entry["difference"]):
        return ""
    return f"[{entry['difference']:+.1f}]"


def _says_the_same(metric: str, table: pd.DataFrame) -> bool:
    """An IoU of exactly a half is rare: a column for it stands only where it makes a difference."""
    if not metric.endswith("_or_equal"):
        return False
    strict = table[table["metric"] == metric.removesuffix("_or_equal")]["mean"].dropna()
    own = table[table["metric"] == metric]["mean"].dropna()
    return len(strict) == len(own) and np.allclose(strict, own)


def _cell(entry: pd.Series) -> str:
    if entry["n_seeds"] == 0:
        return MISSING
    value = entry["published"] if entry["kind"] == "published" else entry["mean"]
    text = f"{value:.1f}"
    return text if np.isnan(entry["sd"]) else f"{text} ± {entry['sd']:.1f}"


def caption(spec: Spec) -> str:
    """What the table shows, on what, and what it may be compared with."""
    matchings = spec.table.matchings
    merged = "the method named" if len(matchings) > 1 else matchings[0]
    text = (
        f"{spec.table.caption}. {spec.what}; mean ± sd over n training seeds, in percent; "
        f"heads merged by {merged}."
    )
    if spec.comparable:
        return text
    return f"{text} Not the paper's data or backbone: published values are for orientation alone."
