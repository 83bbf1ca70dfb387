"""Metrics along something: a setting of the training, or a corruption's severity."""

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.reporting.results import (
    Spec,
    reference_metrics,
    run_folder,
    run_metrics,
    run_tables,
)
from mmqsa.reporting.statistics import over_seeds
from mmqsa.reporting.style import (
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


def curve_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """Each metric against one setting, a panel per metric and mask source.

    Lines are means over seeds, bars Student's 95 % interval of them, small points single seeds.
    Panels are as high as means and references need: an interval of few seeds may leave them.
    """
    curve = spec.table.curve
    metrics = run_metrics(results, spec)
    metrics = metrics[metrics["matching"] == "hungarian"]
    if metrics.empty:
        raise InputError(f"{results}: no run of {', '.join(spec.table.settings)} to draw")
    metrics, shown = of_first_protocol(metrics)
    at = {name: _value(results, spec, name) for name in metrics["setting"].unique()}
    sources = [own for own in spec.table.mask_sources if own in set(metrics["mask_source"])]
    lines = curve.lines or {"": spec.table.settings}
    references = reference_metrics(results, spec)
    with style():
        figure, axes = _panels(sources, shown, _NAMES.get(curve.against, curve.against))
        for row, source in zip(axes, sources, strict=True):
            for axis, metric in zip(row, shown, strict=True):
                own = metrics[(metrics["mask_source"] == source) & (metrics["metric"] == metric)]
                for index, (name, settings) in enumerate(lines.items()):
                    _draw_line(axis, own[own["setting"].isin(settings)], at, name, index)
                drawn = _draw_references(axis, references, metric, spec)
                low, high = pd.concat([own["value"], drawn]).agg(["min", "max"])
                axis.set_ylim(low - 0.1 * (high - low) - 0.5, high + 0.1 * (high - low) + 0.5)
                _ticks(axis, sorted(set(at.values())))
        legend_below(figure, axes[0][0])
        return save(figure, stem)


def _panels(sources: list[str], metrics: list[str], along: str) -> tuple[Figure, np.ndarray]:
    """A row of panels per mask source, a column per metric."""
    figure, axes = plt.subplots(
        len(sources),
        len(metrics),
        figsize=(PAGE, 0.6 + 1.6 * len(sources)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        axis.set_title(title(metric))
    for axis, source in zip(axes[:, 0], sources, strict=True):
        axis.set_ylabel(f"{SOURCES[source]}, %")
    for axis in axes[-1]:
        axis.set_xlabel(along)
    return figure, axes


_NAMES = {
    "slots.num_heads": "query heads",
    "slots.num_slots": "slots",
    "slots.iterations": "iterations",
    "masking.ratio": "hidden share of patches",
}


def _value(results: Path, spec: Spec, setting: str) -> float:
    """What a setting has for the one that is drawn against, as its runs recorded it."""
    folders = [run_folder(results, setting, seed) for seed in spec.seeds]
    found = next(folder for folder in folders if (folder / "config.yaml").is_file())
    settings = RunConfig.load(found / "config.yaml")
    section, key = spec.table.curve.against.split(".")
    if (section, key) == ("masking", "ratio") and settings.masking.strategy == "none":
        return 0.0  # whatever its ratio says, nothing is hidden
    return getattr(getattr(settings, section), key)


def _draw_line(axis: plt.Axes, own: pd.DataFrame, at: dict, name: str, index: int) -> None:
    if own.empty:
        return
    own = own.assign(x=own["setting"].map(at)).sort_values("x", kind="stable")
    spread = own.groupby("x")["value"].apply(lambda values: pd.Series(over_seeds(values)))
    spread = spread.unstack().reindex(columns=["mean", "ci_low", "ci_high"])
    colour = sns.color_palette("colorblind")[index]
    below, above = spread["mean"] - spread["ci_low"], spread["ci_high"] - spread["mean"]
    axis.errorbar(
        spread.index,
        spread["mean"],
        [below.fillna(0), above.fillna(0)],
        linestyle=DASHES[index % len(DASHES)],
        marker=MARKERS[index],
        markersize=4,
        elinewidth=0.7,
        capsize=2,
        color=colour,
        label=name or "mean over seeds",
    )
    axis.plot(own["x"], own["value"], ".", color=colour, markersize=2.5, alpha=0.6)


def _ticks(axis: plt.Axes, values: list[float]) -> None:
    if len(values) > 2 and all(value > 0 and value % 1 == 0 for value in values):
        doubling = all(two == 2 * one for one, two in pairwise(values))
        if doubling:
            axis.set_xscale("log", base=2)
    apart, last, names = 0.14 * (values[-1] - values[0]), -float("inf"), []
    for value in values:  # crowded ticks stay without a name
        names.append(f"{value:g}" if value - last >= apart or axis.get_xscale() == "log" else "")
        last = value if names[-1] else last
    axis.set_xticks(values, names)
    axis.minorticks_off()


def _draw_references(
    axis: plt.Axes, references: pd.DataFrame, metric: str, spec: Spec
) -> pd.Series:
    """A line for k-means and for each of two controls; returns what was drawn."""
    rows = references[references["metric"] == metric]
    lines = {
        f"k-means, K = {spec.slots}": "--",
        "centre square": ":",
        f"{spec.slots} fixed boxes": "-.",
    }
    for name, dashes in lines.items():
        value = rows[rows["name"] == name]["value"]
        if len(value):
            axis.axhline(value.iloc[0], color="0.45", linestyle=dashes, linewidth=0.9, label=name)
    return rows[rows["name"].isin(lines)]["value"]


def severity_figure(spec: Spec, results: Path, stem: Path) -> list[Path]:
    """Metrics of the first setting against the severity of each corruption; 0 is clean."""
    metrics = run_tables(results, spec)
    metrics = metrics[
        (metrics["setting"] == spec.table.settings[0]) & (metrics["matching"] == "hungarian")
    ]
    metrics, shown = of_first_protocol(metrics)
    metrics = metrics.assign(severity=metrics["images"].str.extract(r"([1-5])$")[0].astype(float))
    unchanged = next(iter(spec.images.values()))[0]  # the evaluation split comes first
    clean = metrics[metrics["images"] == unchanged].assign(severity=0.0)
    metrics = metrics[metrics["severity"].notna()]
    if metrics.empty:
        raise InputError(f"{results}: no metrics on corrupted images to draw")
    sources = [own for own in spec.table.mask_sources if own in set(metrics["mask_source"])]
    kinds = sorted(metrics["row"].unique())
    with style():
        figure, axes = _panels(sources, shown, "severity")
        for row, source in zip(axes, sources, strict=True):
            for axis, metric in zip(row, shown, strict=True):
                for index, kind in enumerate(kinds):
                    own = pd.concat([clean, metrics[metrics["row"] == kind]])
                    own = own[(own["mask_source"] == source) & (own["metric"] == metric)]
                    by_seed = own.groupby(["severity", "seed"])["value"].mean()
                    by_severity = by_seed.groupby("severity")
                    axis.errorbar(
                        by_severity.mean().index,
                        by_severity.mean(),
                        by_severity.std().fillna(0),
                        linestyle=DASHES[index % len(DASHES)],
                        marker=MARKERS[index],
                        markersize=3.5,
                        linewidth=1.0,
                        elinewidth=0.6,
                        capsize=1.5,
                        color=sns.color_palette("colorblind")[index],
                        label=kind,
                    )
        axes[-1][0].set_xticks(range(6))
        legend_below(figure, axes[0][0], columns=6)
        return save(figure, stem)
