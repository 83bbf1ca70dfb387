"""Tables: csv for machines, md and tex for people, from one tidy frame."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from mmqsa.atomic import write_text
from mmqsa.reporting.results import HEADINGS, Spec, reference_metrics, run_metrics

COLUMNS = [
    "kind",
    "label",
    "setting",
    "matching",
    "mask_source",
    "protocol",
    "metric",
    "n_seeds",
    "mean",
    "sd",
    "ci_low",
    "ci_high",
    "n_images",
    "published",
    "published_source",
    "difference",
]
MISSING = "missing"


def make_table(spec: Spec, results: Path, published: Path) -> list[Path]:
    """Write ``tables/{name}.csv``, ``.md`` and ``.tex`` below ``results``; returns their paths."""
    table = tidy_table(spec, results, pd.read_csv(published))
    stem = results / "tables" / spec.name
    paths = [stem.with_suffix(suffix) for suffix in (".csv", ".md", ".tex")]
    csv = table.to_csv(index=False, lineterminator="\n", float_format="%.4f")
    write_text(paths[0], csv)
    write_text(paths[1], to_markdown(spec, table))
    write_text(paths[2], to_latex(spec, table))
    return paths


def tidy_table(spec: Spec, results: Path, published: pd.DataFrame) -> pd.DataFrame:
    """One row per printed row and metric, in the order of print (COLUMNS), values in percent.

    ``sd`` is the sample deviation over training seeds, the interval Student's 95 % of their mean;
    both are empty for a single seed. A setting without runs stands with ``n_seeds`` 0.
    """
    rows = _own_rows(spec, run_metrics(results, spec), published)
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
    return pd.DataFrame(rows, columns=COLUMNS)


def _own_rows(spec: Spec, metrics: pd.DataFrame, published: pd.DataFrame) -> list[dict]:
    """Mask source by mask source, a row per setting, matching and metric."""
    table, several = spec.table, len(spec.table.matchings) > 1
    present = set(metrics[["protocol", "metric"]].itertuples(index=False, name=None))
    shown = [name for name in HEADINGS if name in present] or list(HEADINGS)[:3]
    sources = list(metrics["mask_source"].unique()) or ["decoder"]
    names = ["setting", "matching", "mask_source", "protocol", "metric"]
    groups = dict(list(metrics.groupby(names)))
    rows = []
    for source, setting, matching, (protocol, metric) in product(
        sources, table.settings, table.matchings, shown
    ):
        key = (setting, matching, source, protocol, metric)
        called = matching if several else setting
        row = {"kind": "setting", "label": table.labels.get(called, called)}
        row |= dict(zip(names, key, strict=True)) | _over_seeds(groups.get(key))
        if setting == "full" and matching == "hungarian":
            row |= _against_paper(spec, row, published)
        rows.append(row)
    return rows


def _over_seeds(values: pd.DataFrame | None) -> dict:
    """Mean, deviation and 95 % interval of one metric's rows, one per seed; None: no runs."""
    if values is None:
        return {"n_seeds": 0}
    number = len(values)
    mean = values["value"].mean()
    found = {"n_seeds": number, "mean": mean, "n_images": int(values["n_images"].iloc[0])}
    if number > 1:
        deviation = values["value"].std(ddof=1)
        half = student.ppf(0.975, number - 1) * deviation / math.sqrt(number)
        found |= {"sd": deviation, "ci_low": mean - half, "ci_high": mean + half}
    return found


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
    """k-means at as many clusters as slots and at its best, then every control."""
    kmeans = metrics[metrics["kind"] == "kmeans"]
    shown = {}
    if len(kmeans):
        mbo = kmeans[kmeans["metric"] == "mbo_c"]
        best = mbo.loc[mbo["value"].idxmax(), "name"] if len(mbo) else None
        for name, slots in kmeans[["name", "slots"]].drop_duplicates().itertuples(index=False):
            if slots == spec.slots:
                shown[name] = f"{name} (as many as slots)"
            elif name == best:
                shown[name] = f"{name} (its best mBO^c)"
    controls = metrics[metrics["kind"] == "controls"]
    shown |= {name: name for name in controls["name"].unique()}
    rows = []
    for name, label in shown.items():
        for entry in metrics[metrics["name"] == name].to_dict("records"):
            if (entry["protocol"], entry["metric"]) in HEADINGS:
                rows.append(
                    {
                        "kind": "k-means" if entry["kind"] == "kmeans" else "control",
                        "label": label,
                        **{key: entry[key] for key in ("protocol", "metric", "n_images")},
                        "mean": entry["value"],
                    }
                )
    return rows


def _printed(table: pd.DataFrame, plus_minus: str) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of cells; a row is a (kind, label, mask source)."""
    present = set(table[["protocol", "metric"]].itertuples(index=False, name=None))
    metrics = [name for name in HEADINGS if name in present]
    heading = ["", "masks", "n", *(HEADINGS[name] for name in metrics)]
    rows = []
    frame = table.fillna({"mask_source": ""})
    for (_, label, source), group in frame.groupby(["kind", "label", "mask_source"], sort=False):
        seeds = group["n_seeds"].iloc[0]
        cells = [label, source, "" if np.isnan(seeds) else str(int(seeds))]
        for _, metric in metrics:  # mBO^c is one number under both protocols
            entry = group[group["metric"] == metric]
            cells.append(_cell(entry.iloc[0], plus_minus) if len(entry) else "")
        rows.append(cells)
    return heading, rows


def _cell(entry: pd.Series, plus_minus: str) -> str:
    if entry["n_seeds"] == 0:
        return MISSING
    value = entry["published"] if entry["kind"] == "published" else entry["mean"]
    text = f"{value:.1f}"
    return text if np.isnan(entry["sd"]) else f"{text} {plus_minus} {entry['sd']:.1f}"


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


def to_markdown(spec: Spec, table: pd.DataFrame) -> str:
    """The table in Markdown."""
    heading, rows = _printed(table, "±")
    frame = pd.DataFrame(rows, columns=heading)
    text = frame.to_markdown(
        index=False,
        disable_numparse=True,
        colalign=["left", "left"] + ["right"] * (len(heading) - 2),
    )
    return f"{caption(spec)}\n\n{text}\n"


def to_latex(spec: Spec, table: pd.DataFrame) -> str:
    """A booktabs table in a document that compiles alone."""
    heading, rows = _printed(table, r"$\pm$")
    escape = str.maketrans({"%": r"\%", "&": r"\&", "_": r"\_", "^": r"\textasciicircum{}"})

    def line(cells: list[str]) -> str:
        return " & ".join(cell.translate(escape) for cell in cells) + r" \\"

    body, kind = [], None
    kinds = list(
        table.fillna({"mask_source": ""})
        .groupby(["kind", "label", "mask_source"], sort=False)
        .groups
    )
    for (row_kind, _, _), cells in zip(kinds, rows, strict=True):
        if kind not in (None, row_kind):
            body.append(r"\midrule")
        kind = row_kind
        body.append(line(cells))
    heading = [name.replace("mBO^c", "mBO$^c$").replace("mBO^i", "mBO$^i$") for name in heading]
    words = caption(spec).translate(escape).replace("±", r"$\pm$")
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{booktabs}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\begin{document}",
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{words}}}",
            rf"\begin{{tabular}}{{llr{'r' * (len(heading) - 3)}}}",
            r"\toprule",
            " & ".join(heading) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            r"\end{document}",
            "",
        ]
    )
