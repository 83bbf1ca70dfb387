"""The one style of all figures: vector PDF and PNG, readable as small as a caption and in grey."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a cluster

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from mmqsa.atomic import whole_file
from mmqsa.reporting.results import HEADINGS

COLUMN, PAGE = 3.4, 7.0  # inches: a column and a page of a two-column paper
SOURCES = {
    "decoder": "decoder alphas",
    "attention": "slot attention",
    "decoder-masks": "decoder alphas, merged as masks",
}
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES = ["-", "--", ":", "-."]


@contextmanager
def style() -> Iterator[None]:
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


def title(metric: str) -> str:
    """A metric's heading, for a figure."""
    return re.sub(r"\^(\w)", r"$^\1$", HEADINGS[metric])


def of_first_protocol(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the paper's protocol, or of whatever there is, and their metrics in order."""
    paper = metrics[metrics["protocol"] == "paper"]
    rows = paper if len(paper) else metrics
    return rows, [name for name in HEADINGS if name in set(rows["metric"])]


def legend_below(figure: Figure, axis: plt.Axes, columns: int = 4) -> None:
    """One legend for all panels: what was measured first, then the lines to hold it against."""
    found = zip(*axis.get_legend_handles_labels(), strict=True)
    ordered = sorted(found, key=lambda item: not isinstance(item[0], ErrorbarContainer))
    handles, labels = zip(*ordered, strict=True)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6
    )
