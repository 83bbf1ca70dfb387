"""How a score tells background from object patches: histograms, and a table over results."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmqsa.errors import InputError
from mmqsa.reporting.metrics_file import read_table
from mmqsa.reporting.results import Results, exists
from mmqsa.reporting.style import PAGE, legend_below
from mmqsa.reporting.typeset import Printed

SCORE_TITLES = {"mean": "mean feature", "principal-component": "principal component"}
KINDS = {"background": ("0.35", "-"), "object": ("C1", "--")}  # patches -> colour, dashes
PRINTED = {  # column of a premise csv -> heading and digits
    "auc_per_image": ("AUC per image", 2),
    "auc_pooled": ("AUC pooled", 2),
    "background_shows": ("object in visible, %", 1),
    "background_hides": ("object in hidden, %", 1),
    "all_object": ("object in all, %", 1),
    "position_variance": ("variance of position, %", 1),
}
OUTERMOST = "outermost bins: with all beyond"  # what figures say of histograms
CAPTION = (
    "Does a patch's score tell background from object? AUC: area under the ROC curve of a high "
    "score for background (1: always, 0.5: chance, 0: it always says object). Object in visible "
    "and in hidden: share of object among the patches that background masking shows and hides."
)


def premise_table(several: Sequence[Results]) -> tuple[pd.DataFrame, Printed]:
    """The premises of several results folders, a row per score; one without is left out."""
    tables = [_read(results, "") for results in several]
    rows: list[dict[str, str]] = []
    for table in tables:
        for index, entry in enumerate(table.to_dict("records")):
            row = {"features": "" if index else entry["features"]}
            row["score"] = SCORE_TITLES[entry["score"]]
            row |= {title: f"{entry[name]:.{digits}f}" for name, (title, digits) in PRINTED.items()}
            rows.append(row)
    headings = ["features", "score", *(title for title, _ in PRINTED.values())]
    groups = [str(number) for number, table in enumerate(tables) for _ in range(len(table))]
    return pd.concat(tables), Printed(CAPTION, headings, rows, groups, left=2)


def premise_figure(several: Sequence[Results]) -> Figure:
    """Histograms of the scores of object and background patches, a row per results folder."""
    counts = [(results, _read(results, "histogram")) for results in several]
    counts = [(results, table) for results, table in counts if len(table)]
    figure, axes = plt.subplots(
        len(counts),
        len(SCORE_TITLES),
        figsize=(PAGE, 0.8 + 1.3 * len(counts)),
        squeeze=False,
        layout="constrained",
    )
    for row, (results, table) in zip(axes, counts, strict=True):
        for axis, (score, title) in zip(row, SCORE_TITLES.items(), strict=True):
            draw_histogram(axis, table[table["score"] == score])
            axis.set_xlabel(f"{title}, in standard deviations")
            axis.set_xticks(axis.get_xticks()[1:-1])  # the outermost would touch the next panel's
        row[0].set_title(results.spec.features, loc="left")
    legend_below(figure, OUTERMOST)
    return figure


def draw_histogram(axis: Axes, counts: pd.DataFrame) -> None:
    """Draw one score's histogram (see evaluation/premise.py): background and object patches.

    Each kind's area is 1, so that the rarer one is seen as well.
    """
    edges = [*counts["low"], counts["high"].iloc[-1]]
    for kind, (colour, dashes) in KINDS.items():
        share = counts[kind] / max(counts[kind].sum(), 1) / (counts["high"] - counts["low"])
        axis.stairs(share, edges, fill=True, alpha=0.35, color=colour)
        axis.stairs(share, edges, lw=1, color=colour, ls=dashes, label=f"{kind} patches")
    axis.set(xlim=(edges[0], edges[-1]), yticks=[])
    axis.grid(False)


def _read(results: Results, kind: str) -> pd.DataFrame:
    """One kind of premise file of the evaluation split, with the ``features`` that it is about."""
    images = next(iter(results.spec.images.values()))[0]
    path = results.paths.reference(images, "premise", kind)
    if not exists(path):
        return pd.DataFrame()
    table = read_table(path, kind or "premise")
    if missing := [name for name in SCORE_TITLES if name not in set(table["score"])]:
        raise InputError(f"{path}: has no score {missing[0]}; run `mmqsa premise` again")
    return table.assign(features=results.spec.features)
