"""Every setting, other method and control against a table's first setting, image by image."""

from pathlib import Path

import pandas as pd

from mmqsa.evaluation.metrics import unpack
from mmqsa.reporting.metrics_table import MISSING, caption
from mmqsa.reporting.results import HEADINGS, Spec, reference_tables, run_tables
from mmqsa.reporting.statistics import holm, paired
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("kind", "label", "mask_source", "protocol", "metric", "difference", "low", "high"),
    *("p", "p_holm", "n_images"),
]


def comparisons_table(
    spec: Spec, results: Path, published: pd.DataFrame
) -> tuple[pd.DataFrame, Printed]:
    """Differences of means over images, in points, with their bootstrap interval over images.

    An image's value is its mean over seeds, so the interval is one over images, of these runs. p
    is of Wilcoxon's signed-rank test; ``p_holm`` is corrected over all rows of one mask source and
    metric.
    """
    runs = run_tables(results, spec, "-per_image")
    others = reference_tables(results, spec, "-per_image")
    columns = unpack(runs)
    metrics = [name for name, (_, metric) in columns.items() if metric in HEADINGS]
    rows = [
        {"kind": "missing", "label": spec.table.labels.get(name, name), "mask_source": "any"}
        for name in spec.table.settings
        if name not in set(runs["setting"])
    ]
    for source in spec.table.mask_sources:
        where = {"mask_source": source, "matching": spec.table.matchings[0]}
        own = _by_image(runs, metrics, "setting", **where)
        labels, first = spec.table.labels, next(iter(spec.table.settings), None)
        if first not in own:
            continue
        found = [("setting", labels.get(name, name), own[name]) for name in own if name != first]
        for name, values in _by_image(others, metrics, "name").items():
            kind = others.loc[others["name"] == name, "kind"].iloc[0]
            found.append((kind, name, values))
        for kind, label, values in found:
            for metric in values:
                protocol, short = columns[metric]
                row = {"kind": kind, "label": label, "mask_source": source}
                row |= {"protocol": protocol, "metric": short}
                rows.append(row | paired(100 * own[first][metric], 100 * values[metric]))
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, group in table.groupby(["mask_source", "protocol", "metric"]):
        table.loc[group.index, "p_holm"] = holm(group["p"].tolist())
    return table, _printed(spec, table)


def _by_image(
    rows: pd.DataFrame, metrics: list[str], name: str, **where: str
) -> dict[str, pd.DataFrame]:
    """Means over seeds of every image, by setting or name, in their order."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    shared = [metric for metric in metrics if metric in rows]
    if not shared or rows.empty:
        return {}
    means = rows.groupby([name, "image_id"], sort=False)[shared].mean()
    return {key: means.loc[key] for key in rows[name].unique()}


def _printed(spec: Spec, table: pd.DataFrame) -> Printed:
    metrics = [name for name in HEADINGS if name in set(table["metric"])] or ["corloc"]
    heading = ["", "masks compared with", *(HEADINGS[name] for name in metrics)]
    rows, groups = [], []
    names = ["mask_source", "kind", "label"]
    for (source, kind, label), own in table.groupby(names, sort=False):
        cells = [label, source]
        for metric in metrics:
            entry = own[own["metric"] == metric]
            cells.append(_cell(entry.iloc[0]) if len(entry) else _absent(kind))
        rows.append(cells)
        groups.append(f"{source} {kind}")
    first = spec.table.settings[0] if spec.table.settings else "nothing"
    text = (
        f"{caption(spec)} Difference to {spec.table.labels.get(first, first)} in points and its "
        "95 % bootstrap interval over images, of these runs; * p < 0.05 (Wilcoxon's signed-rank "
        "test, Holm's correction)."
    )
    return Printed(text, heading, rows, groups, left=2)


def _absent(kind: str) -> str:
    return MISSING if kind == "missing" else ""


def _cell(entry: pd.Series) -> str:
    star = " *" if entry["p_holm"] < 0.05 else ""
    return f"{entry['difference']:+.1f} [{entry['low']:+.1f}, {entry['high']:+.1f}]{star}"
