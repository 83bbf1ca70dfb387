"""Figures from metrics alone, one kind a function; FIGURES names them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmqsa.errors import InputError
from mmqsa.reporting.curves import (
    curve_figure,
    severity_figure,
    snapshots_figure,
    sweep_figure,
    time_figure,
)
from mmqsa.reporting.forest import forest_figure
from mmqsa.reporting.kinds import OF_OTHER_CODE
from mmqsa.reporting.points import controls_figure
from mmqsa.reporting.results import SOURCES, Results
from mmqsa.reporting.strata import present, printed_labels, strata_means
from mmqsa.reporting.style import (
    COLUMN,
    DASHES,
    PAGE,
    errorbars,
    legend_below,
    save,
    seeds_note,
    style,
)


def draw(kind: str, results: Results) -> list[Path]:
    """Draw a figure of a table to ``figures/{table}-{kind}`` (.pdf, .png); returns the paths."""
    path = results.paths.figure(results.spec.name, kind, "png")
    with style():
        return save(FIGURES[kind](results), path.with_suffix(""))


def training_figure(results: Results) -> Figure:
    """Loss over steps, one line per run: a curve that still falls is a run cut short."""
    spec = results.spec
    runs = {run: results.history(*run) for run in spec.runs}
    runs = {run: losses for run, losses in runs.items() if len(losses) > 1}  # not the untrained
    if not runs:
        raise InputError(f"{results.paths.results}: no training history to draw")
    lines = len({setting for setting, _ in runs})
    figure, axis = plt.subplots(figsize=(COLUMN, 2.2 + 0.16 * lines), layout="constrained")
    for (setting, _), losses in runs.items():
        index, label = spec.table.settings.index(setting), spec.label(setting)
        axis.plot(
            losses["step"],
            losses["loss"],
            color=f"C{index}",
            linestyle=DASHES[index % len(DASHES)],
            linewidth=0.9,
            label=None if label in axis.get_legend_handles_labels()[1] else label,
        )
    axis.set(xlabel="optimiser step", ylabel="loss (variance not explained)")
    legend_below(figure, "one line per training seed")
    return figure


def strata_figure(results: Results) -> Figure:
    """The best slot's IoU against the size of objects, and their number, per mask source."""
    spec, table = results.spec, strata_means(results)
    if table.empty:
        raise InputError(f"{results.paths.results}: no objects to draw")
    table = table[(table["labels"] == printed_labels(table)) & (table["by"] != "class")]
    strata = present(table)
    sources = [name for name in spec.table.mask_sources if name in set(table["mask_source"])]
    figure, axes = plt.subplots(
        len(sources),
        2,
        figsize=(PAGE, 1 + 1.7 * len(sources)),
        width_ratios=[1 + len(names) for names in strata.values()],
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for row, source in zip(axes, sources, strict=True):
        for axis, (by, names) in zip(row, strata.items(), strict=True):
            of_panel = table[table["by"] == by]
            of_panel = of_panel.assign(place=of_panel["stratum"].map(names.index))
            of_source = of_panel[of_panel["mask_source"] == source]
            for index, setting in enumerate(spec.table.settings):
                means, label = of_source[of_source["setting"] == setting], spec.label(setting)
                errorbars(axis, "place", means, index, label, len(spec.table.settings))
            _draw_references(axis, of_panel, results)
            axis.set_xticks(range(len(names)), names)
            axis.set_xlim(-0.5, len(names) - 0.5)
        row[0].set_ylabel(f"{SOURCES[source]}, IoU in %")
    axes[-1][0].set_xlabel("share of the image")
    axes[-1][1].set_xlabel("in the image")
    legend_below(figure, seeds_note(table[table["mask_source"].isin(sources)]))
    return figure


def _draw_references(axis: Axes, table: pd.DataFrame, results: Results) -> None:
    """One baseline and one control, in grey; methods of other code in colours of their own."""
    num_slots = results.spec.num_slots
    lines: dict[str, tuple[Any, str]] = {
        f"k-means, K = {num_slots}": ("--", "0.45"),
        f"{num_slots} fixed boxes": (":", "0.45"),
    }
    for title, record in results.methods.items():
        lines[title] = (DASHES[4], record.colour or OF_OTHER_CODE)
    for name, (dashes, colour) in lines.items():
        values = table[table["label"] == name].sort_values("place")
        if len(values):
            x, y = values["place"], values["mean"]
            axis.plot(x, y, linestyle=dashes, color=colour, lw=1, label=name)


def similarity_figure(results: Results) -> Figure:
    """Cosine similarity of all heads' slots before and after matching, mean over images.

    Of the first setting's first seed; blocks are heads, in them slots.
    """
    pairs = results.runs("agreement")
    pairs = pairs[pairs["setting"] == results.spec.first]
    if pairs.empty:
        raise InputError(
            f"{results.paths.results}: no agreement.csv of a run to draw; run `mmqsa agreement`"
        )
    pairs = pairs[pairs["seed"] == pairs["seed"].min()]
    slots = int(pairs["slot"].max()) + 1
    low = pairs[["before", "after"]].min().min()
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 3.3), layout="constrained")
    for axis, when in zip(axes, ("before", "after"), strict=True):
        matrix = pairs.pivot(
            index=["head", "slot"], columns=["other_head", "other_slot"], values=when
        )
        image = axis.imshow(matrix, cmap="cividis", vmin=low, vmax=1, interpolation="nearest")
        for edge in np.arange(slots, len(matrix), slots) - 0.5:
            axis.axhline(edge, color="white", linewidth=0.5)
            axis.axvline(edge, color="white", linewidth=0.5)
        middles = np.arange(0, len(matrix), slots) + (slots - 1) / 2
        heads = range(1, len(middles) + 1)
        axis.set_xticks(middles, heads)
        axis.set_yticks(middles, heads)
        axis.grid(False)
        axis.set(title=f"{when} matching", xlabel="head")
    axes[0].set_ylabel("head")
    figure.colorbar(image, ax=axes, label="cosine similarity", shrink=0.85)
    return figure


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "curve": curve_figure,
    "controls": controls_figure,
    "forest": forest_figure,
    "training": training_figure,
    "snapshots": snapshots_figure,
    "time": time_figure,
    "sweep": sweep_figure,
    "strata": strata_figure,
    "severity": severity_figure,
    "similarity": similarity_figure,
}
