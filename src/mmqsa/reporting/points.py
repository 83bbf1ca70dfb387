"""Settings beside baselines and controls, a point each: of one table, or of several joined."""

import textwrap
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from mmqsa.config.tables import METRICS
from mmqsa.errors import InputError
from mmqsa.reporting.kinds import KINDS, colours_of, kinds_of
from mmqsa.reporting.references import listed_references
from mmqsa.reporting.results import SOURCES, Results, of_first_protocol
from mmqsa.reporting.statistics import spread
from mmqsa.reporting.style import (
    PAGE,
    drawn_interval,
    legend_below,
    literal,
    seeds_note,
    title,
)

PITCH, WIDEST = 0.26, 34  # inches from row to row; characters of a line of a label


def controls_figure(results: Results) -> Figure:
    """Every setting of a table beside baselines and controls, per metric, as points.

    A table of few references has these in its figure too; else all are drawn, but for k-means with
    other numbers of clusters than 2 and K. A method of other code has its own colour.
    """
    spec, metrics = results.spec, results.run_metrics()
    metrics = metrics[metrics["matching"] == "hungarian"]
    labels = metrics["setting"].map(spec.label).astype(str)
    metrics = metrics.assign(label=labels, kind=metrics["mask_source"])
    metrics = metrics[metrics["kind"].isin(spec.table.mask_sources)]
    references = results.reference_metrics()
    if spec.table.references == "few":
        references = references[references["name"].isin(listed_references(spec, references))]
    else:
        others = references["method"] != "kmeans"
        references = references[others | references["num_slots"].isin([2, spec.num_slots])]
    references = references.assign(label=references["name"])
    references["kind"] = kinds_of(results, references)
    table = pd.concat([metrics, _by_seed(references)])
    if table.empty:
        raise InputError(f"{results.paths.results}: no metrics to draw")
    table["colour"] = table["label"].map(colours_of(results))
    rows = table["row"].astype(str)
    table["label"] = table["label"].str.cat(rows.where(rows == "", ", " + rows))
    table, _ = of_first_protocol(table)
    order = list(KINDS)
    table = table.sort_values("kind", key=lambda kinds: kinds.map(order.index), kind="stable")
    means = spread(table, ["label", "kind", "metric"])
    means["colour"] = means["label"].map(dict(zip(table["label"], table["colour"], strict=True)))
    figure = plt.figure(figsize=(PAGE, 1.2 + height(means)), layout="constrained")
    draw_points(figure, means)
    trained = means["kind"].isin(SOURCES) | (means["n_seeds"] > 1)
    legend_below(figure, seeds_note(means[trained]))
    return figure


def _by_seed(references: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed of a method of other code, and one for everything else."""
    means = references["value"].map(lambda value: [value])
    seeds = references["seeds"].where(references["seeds"].map(len) > 0, means)
    table = references.assign(seed=seeds.map(lambda values: range(len(values))), value=seeds)
    return table.explode(["seed", "value"]).astype({"seed": int, "value": float})


def height(means: pd.DataFrame) -> float:
    """Of the rows of a figure, in inches."""
    return PITCH * (1 + means["label"].nunique())


def draw_points(part: FigureBase, means: pd.DataFrame) -> None:
    """A panel per metric and a row per label: ``means`` (see spread) by ``kind``, one of KINDS.

    A ``colour`` in it replaces that of the kind.
    """
    names = [name for name in METRICS if name in set(means["metric"])]
    labels = list(dict.fromkeys(means["label"]))
    sources = [kind for kind in SOURCES if kind in set(means["kind"])]
    axes = part.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, names, strict=True):
        of_metric = means[means["metric"] == metric]
        for kind, colour, own in _by_colour(of_metric):
            name, _, marker = KINDS[kind]
            aside = 0.32 * (sources.index(kind) - (len(sources) - 1) / 2) if kind in sources else 0
            places = own["label"].map(labels.index) + aside
            bars = drawn_interval(own)
            axis.errorbar(
                own["mean"],
                places,
                xerr=bars if np.isfinite(bars).any() else None,
                fmt=marker,
                color=colour,
                label=name,
                elinewidth=0.9,
            )
            seeds = own.assign(place=places)[own["n_seeds"] > 1].explode("seeds")
            values = seeds["seeds"].astype(float)
            axis.plot(values, seeds["place"], ".", color=colour, markersize=2, alpha=0.6)
        lowest = (of_metric["mean"] - np.nan_to_num(drawn_interval(of_metric)[0])).min()
        # Wide enough for whole markers at 0 and 100.
        axis.set(xlabel="%", xlim=(min(0, lowest) - 8, 108), ylim=(len(labels) - 0.4, -0.6))
        axis.set_title(title(metric).replace(" (", "\n("))
        axis.set_xticks([0, 50, 100])
        filled = [literal(textwrap.fill(label, WIDEST)) for label in labels]
        axis.set_yticks(range(len(labels)), filled)
        axis.tick_params(axis="y", length=0)
        axis.grid(True, axis="y", linewidth=0.4)


def _by_colour(means: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The rows of each kind, in the order of KINDS, and in it of each colour."""
    for kind, (_, usual, _) in KINDS.items():
        rows = means[means["kind"] == kind]
        own = rows["colour"].astype(object) if "colour" in rows else pd.Series(None, rows.index)
        for colour, of_colour in rows.groupby(own.where(own.notna(), usual), sort=False):
            yield kind, str(colour), of_colour
