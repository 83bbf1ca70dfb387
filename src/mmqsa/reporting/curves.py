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
from mmqsa.reporting.inputs import knob
from mmqsa.reporting.kinds import OF_OTHER_CODE
from mmqsa.reporting.results import KNOBS, SOURCES, Results, Spec, exists, of_first_protocol
from mmqsa.reporting.statistics import spread
from mmqsa.reporting.style import (
    DASHES,
    PAGE,
    errorbars,
    legend_below,
    literal,
    seeds_note,
    title,
)

IN_THE_COURSE = ("corloc_one_box", "miou_with_background", "mbo_c")  # metrics of snapshots


def curve_figure(results: Results) -> Figure:
    """Each metric against one knob, a panel per metric and mask source, on the first image sets."""
    spec, curve, metrics = results.spec, results.spec.table.curve, results.run_metrics()
    metrics = metrics[metrics["matching"] == "hungarian"]
    metrics = metrics[metrics["row"] == next(iter(spec.images))]
    if curve is None or metrics.empty:
        raise InputError(f"{results.paths.results}: no run of {spec.table.settings} to draw")
    knobs = {name: _knob(results, curve.against, name) for name in metrics["setting"].unique()}
    metrics = metrics.assign(x=metrics["setting"].map(knobs))
    references = results.reference_metrics()
    along = KNOBS.get(curve.against, curve.against)
    figure, panels, note = _panels(spec, metrics, along, ["setting", "x"])
    lines = curve.lines or {"mean over seeds": spec.table.settings}
    for axis, metric, means in panels:
        for index, (label, settings) in enumerate(lines.items()):
            of_line = means[means["setting"].isin(settings)]
            errorbars(axis, "x", of_line, index, label, len(lines))
        _draw_references(axis, references[references["metric"] == metric], results)
        _ticks(axis, sorted(set(knobs.values())))
    legend_below(figure, note)
    return figure


def _panels(
    spec: Spec, metrics: pd.DataFrame, along: str, by: list[str]
) -> tuple[Figure, list[tuple[Axes, str, pd.DataFrame]], str]:
    """A row of panels per mask source, a column per metric: each with its metric and its means.

    The means are over seeds, one for each of ``by``. Then what the figure says of their intervals.
    """
    metrics, names = of_first_protocol(metrics)
    means = spread(metrics, ["mask_source", "metric", *by])
    sources = [name for name in spec.table.mask_sources if name in set(means["mask_source"])]
    figure, axes = plt.subplots(
        len(sources),
        len(names),
        figsize=(PAGE, 0.8 + 1.6 * len(sources)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    panels = []
    for axis, (source, metric) in zip(axes.flat, product(sources, names), strict=True):
        panels.append((axis, metric, _of(means, source, metric)))
        axis.set(
            title=title(metric) if source == sources[0] else "",
            ylabel=f"{SOURCES[source]}, %" if metric == names[0] else "",
            xlabel=along if source == sources[-1] else "",
        )
    return figure, panels, seeds_note(means[means["mask_source"].isin(sources)])


def _of(means: pd.DataFrame, source: str, metric: str) -> pd.DataFrame:
    return means[(means["mask_source"] == source) & (means["metric"] == metric)]


def _knob(results: Results, against: str, setting: str) -> float:
    """The knob's value as the runs of a setting recorded it."""
    files = [results.paths.run(setting, seed) / CONFIG for seed in results.spec.seeds[setting]]
    return knob(RunConfig.load(next(filter(exists, files), files[0])), against)


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


def _draw_references(axis: Axes, references: pd.DataFrame, results: Results) -> None:
    """Grey lines for k-means and two controls; methods of other code in colours of their own."""
    num_slots = results.spec.num_slots
    lines: dict[str, tuple[Any, str]] = {
        f"k-means, K = {num_slots}": ("--", "0.45"),
        "centre square": (":", "0.45"),
        f"{num_slots} fixed boxes": ("-.", "0.45"),
    }
    for name, record in results.methods.items():
        lines[name] = (DASHES[4], record.colour or OF_OTHER_CODE)
    for name, (dashes, colour) in lines.items():
        values = references[references["name"] == name]["value"]
        if len(values):
            look = {"color": colour, "linestyle": dashes, "linewidth": 0.9}
            axis.axhline(values.iloc[0], label=literal(name), **look)
    axis.autoscale_view(scalex=False)  # a line in the margin would lie on the edge


def severity_figure(results: Results) -> Figure:
    """Metrics of the first setting against the severity of each corruption; 0 is clean."""
    spec, metrics = results.spec, results.runs()
    metrics = metrics[(metrics["setting"] == spec.first) & (metrics["matching"] == "hungarian")]
    severity = metrics["images"].str.extract(r"([1-5])$")[0].astype(float)
    unchanged = next(iter(spec.images.values()))[0]  # the evaluation split comes first
    clean = (metrics["images"] == unchanged) & severity.isna()
    metrics = metrics.assign(severity=severity.mask(clean, 0.0))
    metrics = metrics[metrics["severity"].notna()]
    corruptions = sorted(metrics[metrics["severity"] > 0]["row"].unique())
    if not corruptions:
        raise InputError(f"{results.paths.results}: no metrics on corrupted images to draw")
    figure, panels, note = _panels(spec, metrics, "severity", ["row", "severity"])
    for axis, _, means in panels:
        for index, corruption in enumerate(corruptions):
            shown = means[(means["row"] == corruption) | (means["severity"] == 0)]
            errorbars(axis, "severity", shown, index, corruption, len(corruptions))
        _ticks(axis, sorted(metrics["severity"].unique()))
    legend_below(figure, note)
    return figure


def snapshots_figure(results: Results) -> Figure:
    """Loss, and metrics of each mask source, against the images seen in training.

    A setting without snapshots is a line across, at its end's value.
    """
    spec, metrics = results.spec, results.runs("snapshots")
    if metrics.empty:
        raise InputError(f"{results.paths.results}: no run of {spec.table.settings} to draw")
    metrics, names = of_first_protocol(metrics)
    names = [name for name in names if name in IN_THE_COURSE]
    means = spread(metrics, ["mask_source", "metric", "setting", "images_seen"])
    sources = [name for name in spec.table.mask_sources if name in set(means["mask_source"])]
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
        axis, values = axes[row][column], _of(means, source, metric)
        for index, setting in enumerate(spec.table.settings):
            of_setting = values[values["setting"] == setting]
            _draw_course(axis, "images_seen", of_setting, index, setting, spec)
        _draw_references(axis, references[references["metric"] == metric], results)
        axis.set(title=title(metric) if row == 0 else "")
        axis.set_ylabel(f"{SOURCES[source]}, %" if column == 1 else "")
        axis.set_xlabel("images seen" if row == len(sources) - 1 else "")
    for index, setting in enumerate(spec.table.settings):
        losses = _losses(results, setting, metrics[metrics["setting"] == setting])
        dashes = DASHES[index % len(DASHES)]
        axes[0][0].plot(losses.index, losses, color=f"C{index}", linestyle=dashes)
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
    legend_below(figure, seeds_note(means[means["metric"].isin(names)]))
    return figure


def time_figure(results: Results) -> Figure:
    """mBO^c of each mask source against the seconds of training, a line per setting.

    The seconds of a snapshot are its share of the run's steps; a mean stands at the mean of its
    seeds' seconds. Where nothing was trained, there is a line across.
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
    several = metrics.groupby("setting")["step"].transform("nunique") > 1
    metrics = metrics[~several | (metrics["seconds"] > 0)]  # 0 has no place on a logarithmic axis
    by = ["mask_source", "metric", "setting", "step"]
    means = spread(metrics, by).merge(metrics.groupby(by, as_index=False)["seconds"].mean())
    sources = [name for name in spec.table.mask_sources if name in set(means["mask_source"])]
    figure, axes = plt.subplots(
        1, len(sources), figsize=(PAGE, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    references = results.reference_metrics()
    for axis, source in zip(axes[0], sources, strict=True):
        for index, setting in enumerate(spec.table.settings):
            of_setting = _of(means, source, "mbo_c")
            of_setting = of_setting[of_setting["setting"] == setting]
            _draw_course(axis, "seconds", of_setting, index, setting, spec)
        _draw_references(axis, references[references["metric"] == "mbo_c"], results)
        axis.set(title=SOURCES[source], xlabel="seconds of training", xscale="log")
    axes[0][0].set_ylabel(f"{title('mbo_c')}, %")
    legend_below(figure, seeds_note(means))
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
    matchings = spec.table.matchings
    metrics = metrics[metrics["matching"].isin(matchings)]
    figure, panels, note = _panels(spec, metrics, "slots at evaluation", ["matching", "num_slots"])
    for axis, _, means in panels:
        for index, matching in enumerate(matchings):
            of_line = means[means["matching"] == matching]
            errorbars(
                axis, "num_slots", of_line, index, spec.matching_label(matching), len(matchings)
            )
        _ticks(axis, sorted(metrics["num_slots"].unique()))
    legend_below(figure, note)
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
    axis: Axes, x: str, means: pd.DataFrame, index: int, setting: str, spec: Spec
) -> None:
    label = spec.label(setting)
    if len(means) == 1:
        look = {"color": f"C{index}", "linestyle": DASHES[index % len(DASHES)], "linewidth": 0.9}
        axis.axhline(means["mean"].iloc[0], label=label, **look)
    else:
        errorbars(axis, x, means, index, label)
