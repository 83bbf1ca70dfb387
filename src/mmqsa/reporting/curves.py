"""Metrics along a knob of the training, its course, or a corruption's severity."""

from itertools import pairwise, product
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmqsa.config.training import RunConfig
from mmqsa.errors import InputError
from mmqsa.paths import CONFIG, PROVENANCE
from mmqsa.reporting.results import SOURCES, Results, Spec, exists
from mmqsa.reporting.statistics import over_seeds
from mmqsa.reporting.style import DASHES, PAGE, errorbars, legend_below, of_first_protocol, title

IN_THE_COURSE = ("corloc_one_box", "miou_with_background", "mbo_c")  # metrics of snapshots
KNOBS = {
    "slots.num_heads": "query heads",
    "slots.num_slots": "slots",
    "slots.iterations": "iterations",
    "masking.ratio": "hidden share of patches",
}


def curve_figure(results: Results) -> Figure:
    """Each metric against one knob, a panel per metric and mask source.

    Lines are means over seeds, bars Student's 95 % interval of them, small points single seeds.
    Panels are as high as means and references need: an interval of few seeds may leave them.
    """
    spec, curve, metrics = results.spec, results.spec.table.curve, results.run_metrics()
    metrics = metrics[metrics["matching"] == "hungarian"]
    if curve is None or metrics.empty:
        raise InputError(f"{results.paths.results}: no run of {spec.table.settings} to draw")
    knob = {name: _knob(results, curve.against, name) for name in metrics["setting"].unique()}
    metrics = metrics.assign(x=metrics["setting"].map(knob))
    references = results.reference_metrics()
    figure, panels = _panels(spec, metrics, KNOBS.get(curve.against, curve.against))
    for axis, metric, rows in panels:
        lines = curve.lines or {"mean over seeds": spec.table.settings}
        for index, (label, settings) in enumerate(lines.items()):
            _draw_line(axis, rows[rows["setting"].isin(settings)], index, label)
        drawn = _draw_references(axis, references[references["metric"] == metric], spec)
        low, high = pd.concat([rows["value"], drawn]).agg(["min", "max"])
        axis.set_ylim(low - 0.1 * (high - low) - 0.5, high + 0.1 * (high - low) + 0.5)
        _ticks(axis, sorted(set(knob.values())))
    legend_below(figure, panels[0][0])
    return figure


def _panels(
    spec: Spec, metrics: pd.DataFrame, along: str
) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]]]:
    """A row of panels per mask source, a column per metric: each with its metric and its rows."""
    metrics, names = of_first_protocol(metrics)
    sources = [name for name in spec.table.mask_sources if name in set(metrics["mask_source"])]
    figure, axes = plt.subplots(
        len(sources),
        len(names),
        figsize=(PAGE, 0.6 + 1.6 * len(sources)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    panels = []
    for axis, (source, metric) in zip(axes.flat, product(sources, names), strict=True):
        rows = metrics[(metrics["mask_source"] == source) & (metrics["metric"] == metric)]
        panels.append((axis, metric, rows))
        axis.set(
            title=title(metric) if source == sources[0] else "",
            ylabel=f"{SOURCES[source]}, %" if metric == names[0] else "",
            xlabel=along if source == sources[-1] else "",
        )
    return figure, panels


def _knob(results: Results, against: str, setting: str) -> float:
    """The knob's value as the runs of a setting recorded it."""
    files = [results.paths.run(setting, seed) / CONFIG for seed in results.spec.seeds[setting]]
    config = RunConfig.load(next(filter(exists, files), files[0]))
    if against == "masking.ratio" and config.masking.strategy == "none":
        return 0.0  # whatever its ratio says, nothing is hidden
    section, key = against.split(".")
    return getattr(getattr(config, section), key)


def _draw_line(axis: Axes, rows: pd.DataFrame, index: int, label: str) -> None:
    if rows.empty:
        return
    by_value = rows.sort_values("x", kind="stable").groupby("x")["value"]
    spread = by_value.apply(lambda values: pd.Series(over_seeds(values))).unstack()
    spread = spread.reindex(columns=["mean", "ci_low", "ci_high"])
    half = (spread["ci_high"] - spread["mean"]).fillna(0)
    errorbars(axis, spread["mean"], half, index, label)
    axis.plot(rows["x"], rows["value"], ".", color=f"C{index}", markersize=2.5, alpha=0.6)


def _ticks(axis: Axes, values: list[float]) -> None:
    whole = len(values) > 2 and all(value > 0 and value % 1 == 0 for value in values)
    doubling = whole and all(two == 2 * one for one, two in pairwise(values))
    if doubling:
        axis.set_xscale("log", base=2)
    apart, last, names = 0.14 * (values[-1] - values[0]), -float("inf"), []
    for value in values:  # crowded ticks stay without a name
        names.append(f"{value:g}" if doubling or value - last >= apart else "")
        last = value if names[-1] else last
    axis.set_xticks(values, names)
    axis.minorticks_off()


def _draw_references(axis: Axes, references: pd.DataFrame, spec: Spec) -> pd.Series:
    """Grey lines for k-means and two controls; returns the values that were drawn."""
    lines = {
        f"k-means, K = {spec.num_slots}": "--",
        "centre square": ":",
        f"{spec.num_slots} fixed boxes": "-.",
    }
    for name, dashes in lines.items():
        values = references[references["name"] == name]["value"]
        if len(values):
            axis.axhline(values.iloc[0], color="0.45", linestyle=dashes, linewidth=0.9, label=name)
    return references[references["name"].isin(lines)]["value"]


def severity_figure(results: Results) -> Figure:
    """Metrics of the first setting against the severity of each corruption; 0 is clean."""
    spec, metrics = results.spec, results.runs()
    metrics = metrics[(metrics["setting"] == spec.first) & (metrics["matching"] == "hungarian")]
    severity = metrics["images"].str.extract(r"([1-5])$")[0].astype(float)
    unchanged = next(iter(spec.images.values()))[0]  # the evaluation split comes first
    metrics = metrics.assign(severity=severity.mask(metrics["images"] == unchanged, 0.0))
    metrics = metrics[metrics["severity"].notna()]
    corruptions = sorted(metrics[metrics["severity"] > 0]["row"].unique())
    if not corruptions:
        raise InputError(f"{results.paths.results}: no metrics on corrupted images to draw")
    figure, panels = _panels(spec, metrics, "severity")
    for axis, _, rows in panels:
        for index, corruption in enumerate(corruptions):
            shown = rows[(rows["row"] == corruption) | (rows["severity"] == 0)]
            by_seed = shown.groupby(["severity", "seed"])["value"].mean()
            values = by_seed.groupby("severity")
            errorbars(axis, values.mean(), values.std().fillna(0), index, corruption)
        axis.set_xticks(range(6))
    legend_below(figure, panels[0][0], columns=6)
    return figure


def snapshots_figure(results: Results) -> Figure:
    """Loss, and metrics of each mask source, against the images seen in training.

    Lines are means over seeds. A setting without snapshots is a line across, at its end's value.
    """
    spec, metrics = results.spec, results.runs("snapshots")
    if metrics.empty:
        raise InputError(f"{results.paths.results}: no run of {spec.table.settings} to draw")
    metrics, names = of_first_protocol(metrics)
    names = [name for name in names if name in IN_THE_COURSE]
    sources = [name for name in spec.table.mask_sources if name in set(metrics["mask_source"])]
    figure, axes = plt.subplots(
        len(sources),
        1 + len(names),
        figsize=(PAGE, 0.8 + 1.7 * len(sources)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    references = results.reference_metrics()
    for (row, source), (column, metric) in product(enumerate(sources), enumerate(names, 1)):
        axis, of_source = axes[row][column], metrics[metrics["mask_source"] == source]
        values = of_source[of_source["metric"] == metric]
        for index, setting in enumerate(spec.table.settings):
            of_setting = values[values["setting"] == setting]
            _draw_course(
                axis, of_setting.groupby("images_seen")["value"].mean(), index, setting, spec
            )
        _draw_references(axis, references[references["metric"] == metric], spec)
        axis.set(title=title(metric) if row == 0 else "")
        axis.set_ylabel(f"{SOURCES[source]}, %" if column == 1 else "")
        axis.set_xlabel("images seen" if row == len(sources) - 1 else "")
    for index, setting in enumerate(spec.table.settings):
        losses = _losses(results, setting, metrics[metrics["setting"] == setting])
        _draw_course(axes[0][0], losses, index, setting, spec, marker="")
    axes[0][0].set(title="loss", xlabel="images seen")
    axes[0][0].tick_params(labelbottom=True)
    for axis in axes[1:, 0]:
        axis.set_axis_off()
    several = metrics.groupby("setting")["step"].transform("nunique") > 1
    seen = metrics.loc[several & (metrics["images_seen"] > 0), "images_seen"]
    if len(seen):  # logarithmic from the first of them on, so that the start has a place as well
        axes[0][0].set_xscale("symlog", linthresh=seen.min(), linscale=0.4)
        decades = (10**power for power in range(12))
        axes[0][0].set_xticks([0, *(one for one in decades if seen.min() <= one <= seen.max())])
    legend_below(figure, axes[0][-1])
    return figure


def time_figure(results: Results) -> Figure:
    """mBO^c of each mask source against the seconds of training, a line per setting.

    Lines are means over seeds, small points single seeds. The seconds of a snapshot are its share
    of the run's steps; where nothing was trained, there is a line across.
    """
    spec, metrics = results.spec, results.runs("snapshots")
    if metrics.empty:
        raise InputError(f"{results.paths.results}: no run of {spec.table.settings} to draw")
    metrics, _ = of_first_protocol(metrics)
    metrics = metrics[metrics["metric"] == "mbo_c"]
    seconds = {
        run: _seconds(results, *run)
        for run in metrics[["setting", "seed"]].drop_duplicates().itertuples(index=False, name=None)
    }
    whole = pd.Series(list(zip(metrics["setting"], metrics["seed"], strict=True))).map(seconds)
    steps = metrics.groupby(["setting", "seed"])["step"].transform("max")
    metrics = metrics.assign(seconds=whole.to_numpy() * metrics["step"] / steps)
    sources = [name for name in spec.table.mask_sources if name in set(metrics["mask_source"])]
    figure, axes = plt.subplots(
        1, len(sources), figsize=(PAGE, 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    references = results.reference_metrics()
    for axis, source in zip(axes[0], sources, strict=True):
        for index, setting in enumerate(spec.table.settings):
            rows = metrics[(metrics["mask_source"] == source) & (metrics["setting"] == setting)]
            by_step = rows.groupby("step")[["seconds", "value"]].mean()
            if len(by_step) > 1:  # 0 has no place on a logarithmic axis
                by_step, rows = by_step[by_step["seconds"] > 0], rows[rows["seconds"] > 0]
                axis.plot(rows["seconds"], rows["value"], ".", color=f"C{index}", alpha=0.4, ms=2.5)
            values = by_step.set_index("seconds")["value"]
            _draw_course(axis, values, index, setting, spec)
        _draw_references(axis, references[references["metric"] == "mbo_c"], spec)
        axis.set(title=SOURCES[source], xlabel="seconds of training", xscale="log")
    axes[0][0].set_ylabel(f"{title('mbo_c')}, %")
    legend_below(figure, axes[0][0])
    return figure


def _seconds(results: Results, setting: str, seed: int) -> float:
    """How long a run was trained."""
    record = results.provenance(setting, seed)
    if not record:
        raise InputError(f"{results.paths.run(setting, seed) / PROVENANCE}: missing; restore it")
    return float(record["seconds"])


def sweep_figure(results: Results) -> Figure:
    """Metrics of the first setting against the slots at evaluation, a line per matching."""
    spec, metrics = results.spec, results.runs("sweep")
    if len(metrics):
        metrics = metrics[metrics["setting"] == spec.first]
    if metrics.empty:
        raise InputError(f"{results.paths.results}: no sweep of {spec.first} to draw")
    metrics = metrics[metrics["iterations"] == _knob(results, "slots.iterations", spec.first)]
    figure, panels = _panels(spec, metrics, "slots at evaluation")
    for axis, _, rows in panels:
        for index, matching in enumerate(spec.table.matchings):
            by_slots = rows[rows["matching"] == matching].groupby("num_slots")["value"]
            errorbars(axis, by_slots.mean(), by_slots.std().fillna(0), index, spec.label(matching))
    legend_below(figure, panels[0][0])
    return figure


def _losses(results: Results, setting: str, metrics: pd.DataFrame) -> pd.Series:
    """Loss by images seen, mean over the seeds of a setting; empty where nothing was trained."""
    histories = [results.history(setting, seed) for seed in results.spec.seeds[setting]]
    trained, histories = metrics[metrics["step"] > 0], [one for one in histories if len(one) > 1]
    if trained.empty or not histories:
        return pd.Series(dtype=float)
    batch = trained["images_seen"].iloc[0] / trained["step"].iloc[0]
    losses = pd.concat(histories)
    return losses.groupby(losses["step"] * batch)["loss"].mean()


def _draw_course(
    axis: Axes, values: pd.Series, index: int, setting: str, spec: Spec, marker: str = "."
) -> None:
    look: dict[str, Any] = {"color": f"C{index}", "linestyle": DASHES[index % len(DASHES)]}
    if len(values) == 1:
        axis.axhline(values.iloc[0], linewidth=0.9, label=spec.label(setting), **look)
    elif len(values):
        axis.plot(values.index, values, marker=marker, label=spec.label(setting), **look)
