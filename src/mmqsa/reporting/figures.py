"""Figures from metrics alone, one kind a function; FIGURES names them."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from mmqsa.errors import InputError
from mmqsa.reporting.curves import curve_figure, severity_figure
from mmqsa.reporting.results import Spec, reference_metrics, run_folder, run_metrics, run_tables
from mmqsa.reporting.strata import NUMBER_NAMES, SIZE_NAMES, strata_table
from mmqsa.reporting.style import (
    COLUMN,
    DASHES,
    MARKERS,
    PAGE,
    SOURCES,
    legend_below,
    of_first_protocol,
    save,
    style,
    title,
)


def draw(kind: str, spec: Spec, results: Path) -> list[Path]:
    """Draw a figure of a table to ``figures/{table}-{kind}`` (.pdf, .png); returns the paths."""
    return FIGURES[kind](spec, results, results / "figures" / f"{spec.name}-{kind}")


def controls_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """Every setting of a table against k-means and the controls, per metric, as points."""
    metrics = run_metrics(results, spec)
    sources = metrics["mask_source"].isin(spec.table.mask_sources)
    metrics = metrics[sources & (metrics["matching"] == "hungarian")]
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
    table, shown = of_first_protocol(pd.DataFrame(rows))
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
            axis.set(title=title(metric), xlabel="%", ylabel="", xlim=(-3, 103))
            axis.grid(True, axis="y", linewidth=0.4)
        return save(figure, stem)


def training_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """Loss over steps, one line per run: a curve that still falls is a run cut short."""
    with style():
        figure, axis = plt.subplots(figsize=(COLUMN, 2.4), layout="constrained")
        colours = sns.color_palette("colorblind", len(spec.table.settings))
        drawn = False
        for index, setting in enumerate(spec.table.settings):
            for seed in spec.seeds:
                path = run_folder(results, setting, seed) / "history.csv"
                history = pd.read_csv(path) if path.is_file() else []
                if len(history) > 1:  # the untrained control has no curve
                    label = spec.table.labels.get(setting, setting)
                    known = axis.get_legend_handles_labels()[1]
                    axis.plot(
                        history["step"],
                        history["loss"],
                        color=colours[index],
                        linestyle=DASHES[index % len(DASHES)],
                        linewidth=0.9,
                        label=None if label in known else label,
                    )
                    drawn = True
        if not drawn:
            plt.close(figure)
            raise InputError(f"{results}: no training history to draw")
        axis.set(xlabel="optimiser step", ylabel="loss (variance not explained)")
        axis.legend(frameon=False)
        return save(figure, stem)


def strata_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """The best slot's IoU against the size of objects, and their number, per mask source."""
    table, _ = strata_table(spec, results, pd.DataFrame())
    if table.empty:
        raise InputError(f"{results}: no objects to draw")
    kind = "instance" if "instance" in set(table["labels"]) else "class"
    table = table[(table["labels"] == kind) & (table["n_objects"] > 0)]
    sources = [own for own in spec.table.mask_sources if own in set(table["mask_source"])]
    columns = {"size": SIZE_NAMES, "number": NUMBER_NAMES}
    with style():
        figure, axes = plt.subplots(
            len(sources),
            2,
            figsize=(PAGE, 0.8 + 1.7 * len(sources)),
            width_ratios=[5, 3],
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for row, source in zip(axes, sources, strict=True):
            for axis, (by, order) in zip(row, columns.items(), strict=True):
                own = table[table["by"] == by]
                _draw_strata(axis, own[own["mask_source"] == source], order, spec)
                _draw_blind(axis, own, order, spec)
                axis.set_xticks(range(len(order)), order)
            row[0].set_ylabel(f"{SOURCES[source]}, IoU %")
        axes[-1][0].set_xlabel("share of the image")
        axes[-1][1].set_xlabel("in the image")
        legend_below(figure, axes[0][0])
        return save(figure, stem)


def _draw_strata(axis: plt.Axes, own: pd.DataFrame, order: list[str], spec: Spec) -> None:
    for index, setting in enumerate(spec.table.settings):
        values = own[own["setting"] == setting].set_index("stratum").reindex(order)
        if values["mean"].isna().all():
            continue
        axis.errorbar(
            np.arange(len(order)) + 0.06 * (index - len(spec.table.settings) / 2),
            values["mean"],
            values["sd"].fillna(0),
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index],
            markersize=4,
            linewidth=1,
            capsize=2,
            color=sns.color_palette("colorblind")[index],
            label=spec.table.labels.get(setting, setting),
        )


def _draw_blind(axis: plt.Axes, own: pd.DataFrame, order: list[str], spec: Spec) -> None:
    """One other method and one control, in grey."""
    lines = {f"k-means, K = {spec.slots}": "--", f"{spec.slots} fixed boxes": ":"}
    for name, dashes in lines.items():
        values = own[own["label"] == name].set_index("stratum")["mean"].reindex(order)
        if values.notna().any():
            axis.plot(range(len(order)), values, dashes, color="0.45", linewidth=1, label=name)


def similarity_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """Cosine similarity of all heads' slots before and after matching, mean over images.

    Of the first setting's first seed; blocks are heads, in them slots.
    """
    found = run_tables(results, spec, "-agreement")
    found = found[found["setting"] == spec.table.settings[0]] if len(found) else found
    if found.empty:
        raise InputError(f"{results}: no -agreement.csv of a run to draw; run `mmqsa agreement`")
    found = found[found["seed"] == found["seed"].min()]
    slots = int(found["slot"].max()) + 1
    rows = found["head"] * slots + found["slot"]
    columns = found["other_head"] * slots + found["other_slot"]
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(PAGE, 3.3), layout="constrained")
        low = found[["before", "after"]].min().min()
        for axis, when in zip(axes, ("before", "after"), strict=True):
            matrix = pd.DataFrame({"row": rows, "column": columns, "value": found[when]})
            matrix = matrix.pivot(index="row", columns="column", values="value")
            drawn = axis.imshow(matrix, cmap="cividis", vmin=low, vmax=1, interpolation="nearest")
            edges = np.arange(slots, len(matrix), slots) - 0.5
            for edge in edges:
                axis.axhline(edge, color="white", linewidth=0.5)
                axis.axvline(edge, color="white", linewidth=0.5)
            middles = np.arange(0, len(matrix), slots) + (slots - 1) / 2
            names = range(1, len(middles) + 1)
            axis.set_xticks(middles, names)
            axis.set_yticks(middles, names)
            axis.grid(False)
            axis.set(title=f"{when} matching", xlabel="head")
        axes[0].set_ylabel("head")
        figure.colorbar(drawn, ax=axes, label="cosine similarity", shrink=0.85)
        return save(figure, stem)


FIGURES: dict[str, Callable[[Spec, Path, Path], list[Path]]] = {
    "curve": curve_figure,
    "controls": controls_figure,
    "training": training_figure,
    "strata": strata_figure,
    "severity": severity_figure,
    "similarity": similarity_figure,
}
