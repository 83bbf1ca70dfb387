"""The one style of all figures: vector PDF and PNG, readable as small as a caption and in grey."""

import re
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

from mmqsa.atomic import whole_file
from mmqsa.config.tables import METRICS

COLUMN, PAGE = 3.4, 7.0  # inches: a column and a page of a two-column paper
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES = ["-", "--", ":", "-."]
PARAMETERS: dict[Any, Any] = {
    **dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize"], 8),
    **dict.fromkeys(["legend.fontsize", "xtick.labelsize", "ytick.labelsize"], 7),
    **{"axes.linewidth": 0.6, "lines.linewidth": 1.3, "lines.markersize": 4, "errorbar.capsize": 2},
    **{"pdf.fonttype": 42, "figure.dpi": 200, "savefig.bbox": "tight", "savefig.pad_inches": 0.03},
}


@contextmanager
def style() -> Iterator[None]:
    """All figures are drawn and saved within it."""
    with sns.axes_style("whitegrid"), sns.color_palette("colorblind"), plt.rc_context(PARAMETERS):
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


def title(metric: str) -> str:
    """A metric's heading, for a figure."""
    return re.sub(r"\^(\w)", r"$^\1$", METRICS[metric])


def of_first_protocol(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the paper's protocol, or of whatever there is, and their metrics in order."""
    paper = metrics[metrics["protocol"] == "paper"]
    rows = paper if len(paper) else metrics
    return rows, [name for name in METRICS if name in set(rows["metric"])]


def errorbars(axis: Axes, mean: pd.Series, errors: Any, index: int, label: str) -> None:
    """The ``index``-th line of an axis, ``mean`` over its index, with bars of ``errors``."""
    axis.errorbar(
        mean.index,
        mean,
        errors,
        linestyle=DASHES[index % len(DASHES)],
        marker=MARKERS[index % len(MARKERS)],
        linewidth=1.2,
        elinewidth=0.7,
        color=f"C{index}",
        label=label,
    )


def legend_below(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """One legend for all panels: lines with error bars first, then those to compare them with."""
    entries = zip(*axis.get_legend_handles_labels(), strict=True)
    ordered = sorted(entries, key=lambda entry: not isinstance(entry[0], ErrorbarContainer))
    handles, labels = zip(*ordered, strict=True)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6
    )


def bare(axes: np.ndarray) -> None:
    """Panels of images: no ticks, no grid."""
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
