"""The one style of all figures: vector PDF and PNG, readable as small as a caption and in grey."""

import os
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
from mmqsa.config.files import quoted
from mmqsa.config.tables import METRICS
from mmqsa.errors import InputError

COLUMN, PAGE = 3.4, 7.0  # inches: a column and a page of a two-column paper
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES = ["-", "--", ":", "-."]
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
    with sns.axes_style("whitegrid"), sns.color_palette("colorblind"), plt.rc_context(PARAMETERS):
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
    handles, labels = [one for one, _ in ordered], [label for _, label in ordered]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6
    )


def bare(axes: np.ndarray) -> None:
    """Panels of images: no ticks, no grid."""
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
