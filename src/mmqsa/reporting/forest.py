"""The rows of a leaderboard as points with their intervals."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmqsa.errors import InputError
from mmqsa.reporting.kinds import KINDS, colours_of
from mmqsa.reporting.leaderboard import Board, board, kind_words
from mmqsa.reporting.points import PITCH, WIDEST
from mmqsa.reporting.results import Results
from mmqsa.reporting.style import PAGE, legend_below, literal, title

MOST = 4  # metrics of a figure: more would leave no room for the labels
NOTE = (
    "bars: 95 % bootstrap interval of the mean over images; filled: the best without labels (its "
    "mean\nis the line), and what is not told apart from it (p ≥ 0.05, corrected); small points: "
    "single seeds"
)


def forest_figure(results: Results) -> Figure:
    """The leaderboard of a table, drawn; see `board`."""
    return drawn_board(results, board(results))


def drawn_board(results: Results, found: Board) -> Figure:
    """A panel per metric, a row per method, in the order of print.

    Of the protocol of the metric that orders the rows, MOST metrics and that one among them. What
    sees labels is never filled.
    """
    entries = [entry for entry in found.entries if entry.images is not None]
    if not entries:
        raise InputError(f"{results.paths.results}: no scores image by image to draw")
    protocol = found.printed[found.judge]
    names = [name for name, its in found.printed.items() if its == protocol]
    first = [name for name in names if name != found.judge][: MOST - 1]
    names = [name for name in names if name in {*first, found.judge}]
    colours, kinds = colours_of(results), [kind for kind, _ in kind_words(results, entries)]
    size = (PAGE, 1.2 + PITCH * (1 + len(entries)))
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    legend: dict[str, tuple[str, str]] = {}
    for axis, name in zip(axes, names, strict=True):
        means = found.means(name)
        axis.axvline(means.loc[means["best"], "mean"].max(), color="0.6", linewidth=0.8, zorder=0)
        for place, (entry, kind) in enumerate(zip(entries, kinds, strict=True)):
            if entry.label not in means.index:
                continue
            row = means.loc[entry.label]
            words, usual, marker = KINDS[kind]
            colour = colours.get(entry.label, usual)
            axis.errorbar(
                row["mean"],
                place,
                xerr=[[row["mean"] - row["low"]], [row["high"] - row["mean"]]],
                fmt=marker,
                color=colour,
                markerfacecolor=colour if row["best"] or row["tied"] else "white",
                markersize=5.5 if marker == "X" else 3.5,  # or one could not tell if it is filled
                elinewidth=0.9,
            )
            legend[words] = (usual, marker)
            if entry.seeds is not None and len(entry.seeds) > 1:
                of_seeds = entry.seeds[f"{protocol}/{name}"]
                places = np.full(len(of_seeds), place)
                axis.plot(of_seeds, places, ".", color=colour, markersize=2, alpha=0.6)
        axis.set(xlabel="%", ylim=(len(entries) - 0.4, -0.6))
        axis.margins(x=0.08)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.set_title(title(name).replace(" (", "\n("))
        labels = [literal(textwrap.fill(entry.label, WIDEST)) for entry in entries]
        axis.set_yticks(range(len(entries)), labels)
        axis.tick_params(axis="y", length=0)
        axis.grid(True, axis="y", linewidth=0.4)
    for words, (colour, marker) in legend.items():
        axes[0].errorbar([], [], fmt=marker, color=colour, markersize=3.5, label=words)
    legend_below(figure, NOTE)
    return figure
