"""The one style of all figures: vector PDF and PNG, readable as small as a caption and in grey."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display on a cluster

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from mmqsa.atomic import whole_file
from mmqsa.config.files import quoted
from mmqsa.config.tables import METRICS
from mmqsa.errors import InputError
from mmqsa.reporting.statistics import FEWEST_SEEDS, scale

COLUMN, PAGE = 3.4, 7.0  # inches: a column and a page of a two-column paper
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES: list[Any] = [
    "-",
    "--",
    ":",
    "-.",
    (0, (7, 2, 1, 2, 1, 2)),
    (0, (1, 3)),
    (0, (9, 3)),
    (0, (3, 1)),
]
APART, WIDTH = 2.6, 10  # points from line to line, and of all, so that no bar hides another
PARAMETERS: dict[Any, Any] = {
    **dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize"], 8),
    **dict.fromkeys(["legend.fontsize", "xtick.labelsize", "ytick.labelsize"], 7),
    **{"axes.linewidth": 0.6, "lines.linewidth": 1.3, "lines.markersize": 4, "errorbar.capsize": 2},
    **{"pdf.fonttype": 42, "figure.dpi": 200, "savefig.bbox": "tight", "savefig.pad_inches": 0.03},
}
# How the files of `save` begin and end: as Matplotlib's, without the date and the name of the
# program that others leave in; 7874 dots a metre are 200 an inch.
PNG = re.compile(
    rb"\x89PNG\r\n\x1a\n.{4}IHDR.{8}\x08\x06.{7}.{4}pHYs(?:\x00\x00\x1e\xc2){2}\x01.{8}IDAT",
    re.DOTALL,
)
PDF = re.compile(
    rb"<< /Creator \(Matplotlib [^\n]*\n/Producer \(Matplotlib pdf backend [^\n]* >>\n"
)


@contextmanager
def style() -> Iterator[None]:
    """All figures are drawn and saved within it."""
    with (
        sns.axes_style("whitegrid"),
        sns.color_palette("colorblind"),
        plt.rc_context(PARAMETERS),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # such as emoji in a title: a box
        yield


def figure_paths(stem: Path) -> list[Path]:
    """``stem.pdf`` and ``stem.png``. Raises InputError where another file is there, which stays."""
    if not stem.name.strip("."):
        raise InputError(f"{stem}: names no figure; expected a path without suffix")
    paths = [stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png")]
    for path in paths:
        if os.path.lexists(path) and not _is_figure(path):
            raise InputError(
                f"{path}: exists and is no figure of mmqsa; it stays: name another, or remove it"
            )
    return paths


def _is_figure(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if path.suffix == ".png":
            return PNG.match(file.read(100)) is not None
        file.seek(max(0, path.stat().st_size - 1_000_000))  # what made it is near the end
        return PDF.search(file.read()) is not None


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png``: the same figure, the same bytes.

    Only a figure that was written here is replaced (see figure_paths).
    """
    plt.close(figure)  # which it can be saved after
    paths = figure_paths(stem)
    for path in paths:
        stamp = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with whole_file(path) as temporary:
            try:
                figure.savefig(temporary, metadata=stamp)
            except ValueError as error:
                if "Parse" not in str(error):
                    raise
                formula = quoted(str(error).split("\n")[1])
                raise InputError(
                    f"{path}: {formula} in a label is no formula; write \\$ for a dollar"
                ) from None
    return paths


def title(metric: str) -> str:
    """A metric's heading, for a figure."""
    return re.sub(r"\^(\w)", r"$^\1$", METRICS[metric])


def drawn_interval(means: pd.DataFrame) -> np.ndarray:
    """How far bars go below and above each mean, (2, rows): no further than a metric can.

    ``means`` are those of statistics.spread; NaN where there is no interval.
    """
    metrics = means["metric"] if "metric" in means else [""] * len(means)
    ends = np.array([scale(metric) for metric in metrics], dtype=float).reshape(-1, 2)
    low = means["ci_low"].clip(lower=ends[:, 0])
    high = means["ci_high"].clip(upper=ends[:, 1])
    return np.array([means["mean"] - low, high - means["mean"]], dtype=float)


def seeds_note(means: pd.DataFrame, points: bool = True) -> str:
    """What a figure of ``means`` (see statistics.spread) says of its bars and small points."""
    counts = means.loc[means["n_seeds"] > 0, "n_seeds"].astype(int)
    if counts.empty or counts.max() < 2:
        return "one training seed each" if len(counts) else ""
    least, most = counts.min(), counts.max()
    n = f"n = {least}" if least == most else f"n = {least}–{most}"
    singles = "; small points: single seeds" * points
    if most < FEWEST_SEEDS:
        return f"means over {n} training seeds{singles}"
    fewer = f" (none where n < {FEWEST_SEEDS})" * bool(least < FEWEST_SEEDS)
    whole = abs(means[["ci_low", "ci_high"]].sub(means["mean"], axis=0)).to_numpy(dtype=float).T
    cut = ", cut where the scale ends" * bool((whole > drawn_interval(means) + 1e-9).any())
    return (
        f"bars: 95 % interval (Student's) of the mean over {n} training seeds{fewer}{cut}{singles}"
    )


def errorbars(
    axis: Axes, x: str, means: pd.DataFrame, index: int, label: str, lines: int = 0
) -> None:
    """The ``index``-th line of an axis: ``means`` (see statistics.spread) over a column.

    Bars are intervals, small points single seeds. Of several ``lines`` at the same places each
    stands a little aside. One mean alone is a marker without a line.
    """
    means = means.sort_values(x, kind="stable")
    if means.empty:
        return
    shift = min(APART, WIDTH / lines) * (index - (lines - 1) / 2) if lines else 0
    aside = offset_copy(axis.transData, axis.get_figure(root=True), x=shift, units="points")
    bars = drawn_interval(means)
    axis.errorbar(
        means[x],
        means["mean"],
        bars if np.isfinite(bars).any() else None,
        linestyle=DASHES[index % len(DASHES)] if len(means) > 1 else "none",
        marker=MARKERS[index % len(MARKERS)],
        linewidth=1.2,
        elinewidth=0.7,
        color=f"C{index}",
        label=label,
        transform=aside,
    )
    axis.margins(x=0.05 + 0.015 * lines)
    # An axis does not see by itself how far artists reach that stand aside.
    for end in (-bars[0], bars[1]):
        axis.update_datalim(np.column_stack([means[x], means["mean"] + np.nan_to_num(end)]))
    seeds = means[means["n_seeds"] > 1].explode("seeds").astype({"seeds": float})
    look: dict[str, Any] = {"color": f"C{index}", "markersize": 2.5, "alpha": 0.6}
    axis.plot(seeds[x], seeds["seeds"], ".", transform=aside, **look)
    axis.update_datalim(seeds[[x, "seeds"]].to_numpy(dtype=float))


def literal(text: str) -> str:
    """Text as matplotlib draws it: dollars are no formula, and a line first is no hidden label."""
    return (" " * text.startswith("_") + text).replace("$", r"\$")


def legend_below(figure: Figure, note: str = "") -> None:
    """One legend for all panels: lines with error bars first, then those to compare them with.

    ``note`` is what a reader has to know of the marks.
    """
    entries: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    labels = sorted(entries, key=lambda label: not isinstance(entries[label], ErrorbarContainer))
    figure.legend(
        [entries[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=_columns(labels, figure.get_figwidth()),
        frameon=False,
        handlelength=3,
        title=note or None,
        title_fontsize=7,
    )


def _columns(labels: list[str], width: float) -> int:
    """As many columns of a legend, at most four, as are no wider than the figure (inches)."""
    for columns in (4, 3, 2):
        rows = -(-len(labels) // columns)
        longest = [max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows or 1)]
        if sum(0.056 * length + 0.6 for length in longest) <= width:
            return columns
    return 1


def bare(axes: np.ndarray) -> None:
    """Panels of images: no ticks, no grid."""
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
