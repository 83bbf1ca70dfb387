"""Settings, methods and controls compared with a table's first setting, image by image."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mmqsa.config.tables import METRICS, unpack
from mmqsa.reporting.results import MISSING, SOURCES, Results
from mmqsa.reporting.statistics import holm, paired
from mmqsa.reporting.typeset import Printed

COLUMNS = [
    *("kind", "label", "mask_source", "protocol", "metric", "difference", "low", "high"),
    *("p", "p_holm", "n_images"),
]


def comparisons_table(results: Results) -> tuple[pd.DataFrame, Printed]:
    """Differences of means over images, in points, with their bootstrap interval over images.

    An image's value is its mean over seeds, so the interval is one over images, of these runs. p
    is that of `paired_p`; ``p_holm`` is corrected over all rows of one mask source and metric.
    """
    spec, runs = results.spec, results.runs("per_image")
    references = results.references("per_image")
    metrics = {name: pair for name, pair in unpack(runs).items() if pair[1] in METRICS}
    kinds = dict(zip(references["name"], references["kind"], strict=True))
    others = _by_image(references, metrics, "name")
    rows: list[dict[str, Any]] = [
        {"kind": "missing", "label": spec.label(setting), "mask_source": "any"}
        for setting in spec.table.settings
        if setting not in set(runs["setting"])
    ]
    for source in spec.table.mask_sources:
        same = (runs["mask_source"] == source) & (runs["matching"] == spec.table.matchings[0])
        settings = _by_image(runs[same], metrics, "setting")
        if spec.first not in settings:
            continue
        first = settings.pop(spec.first)
        compared = [("setting", spec.label(name), values) for name, values in settings.items()]
        compared += [(kinds[name], name, values) for name, values in others.items()]
        for kind, label, values in compared:
            for column in values:
                protocol, metric = metrics[column]
                row = {"kind": kind, "label": label, "mask_source": source}
                row |= {"protocol": protocol, "metric": metric}
                rows.append(row | paired(100 * first[column], 100 * values[column]))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = table.groupby(["mask_source", "protocol", "metric"])["p"].transform(holm)
    return table, _printed(results, table)


def _by_image(rows: pd.DataFrame, metrics: Iterable[str], name: str) -> dict[str, pd.DataFrame]:
    """Means over seeds of every image, by setting or name, in their order."""
    shared = [metric for metric in metrics if metric in rows]
    if not shared or rows.empty:
        return {}
    means = rows.groupby([name, "image_id"], sort=False)[shared].mean()
    return {key: means.loc[key] for key in rows[name].unique()}


def _printed(results: Results, table: pd.DataFrame) -> Printed:
    spec = results.spec
    metrics = [name for name in METRICS if name in set(table["metric"])] or ["corloc"]
    rows, groups = [], []
    for (source, kind, label), group in table.groupby(["mask_source", "kind", "label"], sort=False):
        row = {"": label, "mask source": SOURCES.get(source, source)}
        if kind == "missing":
            row |= {METRICS[name]: MISSING for name in metrics}
        else:
            entries = group.drop_duplicates("metric").to_dict("records")
            row |= {METRICS[entry["metric"]]: _cell(entry) for entry in entries}
        rows.append(row)
        groups.append(f"{source} {kind}")
    caption = spec.caption(
        f"Difference to {spec.label(spec.first)} in points, with its 95 % bootstrap "
        "interval over the images; * p < 0.05 (Wilcoxon's signed-rank test, McNemar's "
        "for hits and misses, Holm's correction).",
        results.credits,
    )
    heading = ["", "mask source", *(METRICS[name] for name in metrics)]
    return Printed(caption, heading, rows, groups, left=2)


def _cell(entry: dict) -> str:
    star = " *" if entry["p_holm"] < 0.05 else ""
    return f"{entry['difference']:+.1f} [{entry['low']:+.1f}, {entry['high']:+.1f}]{star}"
