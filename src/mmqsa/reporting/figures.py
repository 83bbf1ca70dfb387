"""Figures from metrics alone: one style, vector PDF and PNG."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a cluster

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mmqsa.atomic import whole_file
from mmqsa.errors import InputError
from mmqsa.reporting.results import (
    HEADINGS,
    Spec,
    reference_metrics,
    run_folder,
    run_metrics,
)
from mmqsa.settings import Settings

COLUMN, PAGE = 3.4, 7.0  # inches: a column and a page of a two-column paper
SOURCES = {
    "decoder": "decoder alphas",
    "attention": "slot attention",
    "decoder-masks": "decoder alphas, merged as masks",
}


@contextmanager
def style() -> Iterator[None]:
    """The one style: readable at the size of a caption, in print and in grey."""
    settings = {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.3,
        "pdf.fonttype": 42,
        "figure.dpi": 200,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.03,
    }
    with sns.axes_style("whitegrid"), sns.color_palette("colorblind"), plt.rc_context(settings):
        yield


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png``: the same figure, the same bytes."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png")]
    for path in paths:
        stamp = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with whole_file(path) as temporary:
            figure.savefig(temporary, metadata=stamp)
    plt.close(figure)
    return paths


def _title(metric: str) -> str:
    return re.sub(r"\^(\w)", r"$^\1$", HEADINGS[metric])


def _drawn(results: Path, spec: Spec) -> pd.DataFrame:
    """A table's metrics under Hungarian matching, of the mask sources that it shows."""
    metrics = run_metrics(results, spec)
    sources = metrics["mask_source"].isin(spec.table.mask_sources)
    return metrics[sources & (metrics["matching"] == "hungarian")]


def _shown(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the paper's protocol, or of whatever there is, and their metrics in order."""
    paper = metrics[metrics["protocol"] == "paper"]
    rows = paper if len(paper) else metrics
    return rows, [name for name in HEADINGS if name in set(rows["metric"])]


def heads_figure(spec: Spec, results: Path) -> list[Path]:
    """Each metric against the number of heads: mean and deviation over seeds, runs, controls."""
    metrics = _drawn(results, spec)
    if metrics.empty:
        raise InputError(f"{results}: no run of {', '.join(spec.table.settings)} to draw")
    metrics, shown = _shown(metrics)
    runs = metrics[["setting", "seed"]].drop_duplicates().itertuples(index=False)
    found = {
        setting: Settings.load(run_folder(results, setting, seed) / "settings.yaml")
        for setting, seed in runs
    }
    metrics = metrics.assign(
        heads=metrics["setting"].map({name: own.slots.heads for name, own in found.items()}),
        steps=metrics["setting"].map({name: own.training.steps for name, own in found.items()}),
    )
    references = reference_metrics(results, spec)
    with style():
        figure, axes = plt.subplots(1, len(shown), figsize=(PAGE, 2.3), layout="constrained")
        for axis, metric in zip(axes, shown, strict=True):
            _draw_heads(axis, metrics[metrics["metric"] == metric])
            _draw_references(axis, references, metric, spec)
            axis.set(title=_title(metric), xlabel="query heads", ylabel="")
        axes[0].set_ylabel("%")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return save(figure, results / "figures" / "heads")


def _draw_heads(axis: plt.Axes, own: pd.DataFrame) -> None:
    """At equal steps a line, at equal updates per head a dashed one: they meet at most heads."""
    own = own.assign(
        whole=own["steps"] == own["steps"].max(), most=own["heads"] == own["heads"].max()
    )
    for index, (source, group) in enumerate(own.groupby("mask_source", sort=False)):
        colour, marker = sns.color_palette("colorblind")[index], "os"[index % 2]
        budgets = [("", "-", colour, group[group["whole"]])]
        if not group["whole"].all():
            equal = group[~group["whole"] | group["most"]]
            budgets.append((", equal updates per head", "--", "white", equal))
        for note, dashes, face, runs in budgets:
            spread = runs.groupby("heads")["value"].agg(["mean", "std"]).fillna(0)
            axis.errorbar(
                spread.index,
                spread["mean"],
                spread["std"],
                linestyle=dashes,
                marker=marker,
                markersize=4,
                markerfacecolor=face,
                capsize=2.5,
                color=colour,
                label=SOURCES[source] + note,
            )
    ticks = sorted(own["heads"].unique())
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()


def _draw_references(axis: plt.Axes, references: pd.DataFrame, metric: str, spec: Spec) -> None:
    rows = references[references["metric"] == metric]
    lines = {f"k-means, K = {spec.slots}": "--", "centre square": ":", "one slot": "-."}
    for name, dashes in lines.items():
        value = rows[rows["name"] == name]["value"]
        if len(value):
            axis.axhline(value.iloc[0], color="0.35", linestyle=dashes, linewidth=1, label=name)


def methods_figure(spec: Spec, results: Path) -> list[Path]:
    """Every setting of a table against k-means and the controls, per metric, as points."""
    metrics = _drawn(results, spec)
    rows = [
        {
            "label": f"{spec.table.labels.get(entry['setting'], entry['setting'])}, "
            f"{SOURCES[entry['mask_source']]}",
            "kind": SOURCES[entry["mask_source"]],
            **entry,
        }
        for entry in metrics.to_dict("records")
    ]
    rows += [
        {**entry, "label": entry["name"]}
        for entry in reference_metrics(results, spec).to_dict("records")
        if entry["method"] != "kmeans" or entry["slots"] in (2, spec.slots)
    ]
    if not rows:
        raise InputError(f"{results}: no metrics to draw")
    table, shown = _shown(pd.DataFrame(rows))
    order = [*SOURCES.values(), "method", "supervised", "control"]
    table = table.sort_values("kind", key=lambda own: own.map(order.index), kind="stable")
    labels = list(dict.fromkeys(table["label"]))
    with style():
        figure, axes = plt.subplots(
            1,
            len(shown),
            figsize=(PAGE, 0.5 + 0.2 * len(labels)),
            sharey=True,
            layout="constrained",
        )
        for axis, metric in zip(axes, shown, strict=True):
            own = table[table["metric"] == metric]
            sns.pointplot(
                own,
                x="value",
                y="label",
                hue="kind",
                order=labels,
                errorbar="sd",
                linestyle="none",
                markersize=4,
                err_kws={"linewidth": 1.2},
                capsize=0.3,
                palette="colorblind",
                hue_order=order,
                markers=["o", "s", "v", "D", "P", "X"],
                legend=False,
                ax=axis,
            )
            axis.set(title=_title(metric), xlabel="%", ylabel="", xlim=(-3, 103))
            axis.grid(True, axis="y", linewidth=0.4)
        return save(figure, results / "figures" / f"{spec.name}-controls")


def training_figure(spec: Spec, results: Path) -> list[Path]:
    """Loss over steps, one line per run: a curve that still falls is a run cut short."""
    with style():
        figure, axis = plt.subplots(figsize=(COLUMN, 2.4), layout="constrained")
        colours = sns.color_palette("colorblind", len(spec.table.settings))
        drawn = False
        for colour, setting in zip(colours, spec.table.settings, strict=True):
            for seed in spec.seeds:
                path = run_folder(results, setting, seed) / "history.csv"
                history = pd.read_csv(path) if path.is_file() else []
                if len(history) > 1:  # the untrained control has no curve
                    label = spec.table.labels.get(setting, setting)
                    known = axis.get_legend_handles_labels()[1]
                    axis.plot(
                        history["step"],
                        history["loss"],
                        color=colour,
                        linewidth=0.9,
                        label=None if label in known else label,
                    )
                    drawn = True
        if not drawn:
            plt.close(figure)
            raise InputError(f"{results}: no training history to draw")
        axis.set(xlabel="optimiser step", ylabel="loss (variance not explained)")
        axis.legend(frameon=False)
        return save(figure, results / "figures" / f"{spec.name}-training")
