"""The same table of several results folders as one, and what their backbones are like."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mmqsa.atomic import claimed
from mmqsa.config.files import read_text
from mmqsa.errors import InputError
from mmqsa.paths import Paths
from mmqsa.reporting.kinds import KINDS, colours_of, kinds_of
from mmqsa.reporting.points import draw_points, height
from mmqsa.reporting.premise import premise_figure, premise_table
from mmqsa.reporting.references import NOTE
from mmqsa.reporting.results import Results, exists, of_first_protocol
from mmqsa.reporting.style import PAGE, legend_below, save, seeds_note, style
from mmqsa.reporting.tables import MAKERS, write_table
from mmqsa.reporting.typeset import Printed

JOINED = ("metrics", "sweep", "snapshots")  # kinds of tables; their rows are settings and metrics
PREMISE = "premise"  # the second table


def results_of(spec: Path) -> Path:
    """The results folder that a spec lies in. Raises InputError where it lies elsewhere."""
    spec = Path(os.path.abspath(spec))
    results = spec.parent.parent.parent
    if spec.parent != Paths(results).stage_config("tables").with_suffix(""):
        raise InputError(
            f"{spec}: no spec of a results folder; name RESULTS/config/tables/NAME.yaml"
        )
    return results


def _check(several: Sequence[Results], out: Path) -> None:
    """Raises InputError where they make no table together, or ``out`` has something else."""
    features: dict[str, Path] = {}
    for results in several:
        spec, folder = results.spec, results.paths.results
        if spec.table.kind not in JOINED or spec.table.kind != several[0].spec.table.kind:
            raise InputError(
                f"{folder}: the table {spec.name} is one of {spec.table.kind}; expected "
                f"{', '.join(JOINED)}, and the same of all folders"
            )
        if spec.features in features:
            raise InputError(
                f"{folder}: has the features of {features[spec.features]}, {spec.features}, so "
                "their rows would be alike; join others"
            )
        features[spec.features] = folder
    others = [path.name for path in out.iterdir()] if out.is_dir() else []
    if others := sorted(set(others) - {"tables", "figures"}):
        raise InputError(
            f"--out {out}: has {others[0]}, so it holds no joined tables; name another"
        )
    for name in (several[0].spec.name, PREMISE):
        path = Paths(out).table(name, "csv")
        if exists(path) and "features" not in read_text(path).partition("\n")[0].split(","):
            raise InputError(f"{path}: no joined table; it stays: name another --out")


def join(several: Sequence[Results], out: Path) -> list[Path]:
    """Write the joined table, their premises as a table and as a figure to ``out``.

    Raises InputError where ``out`` has anything but what this wrote.
    """
    with claimed(out):
        return _join(several, out)


def _join(several: Sequence[Results], out: Path) -> list[Path]:
    """Write the joined tables to a folder that no other process writes to."""
    _check(several, out)
    paths, name = Paths(out), several[0].spec.name
    tidy, printed = joined_table(several)
    written = write_table(paths, name, tidy, printed)
    with style():
        stem = paths.figure(name, "controls", "png").with_suffix("")
        written += save(joined_figure(tidy, several), stem)
    table, printed = premise_table(several)
    if len(table):
        written += write_table(paths, PREMISE, table, printed)
        with style():
            stem = paths.figure(PREMISE, "histogram", "png").with_suffix("")
            written += save(premise_figure(several), stem)
    return written


def joined_figure(tidy: pd.DataFrame, several: Sequence[Results]) -> Figure:
    """Each row of the table as a point, per metric and ``features``, with its interval."""
    means, _ = of_first_protocol(tidy.reset_index(drop=True))
    means["label"] = means["label"].str.replace(NOTE, "", regex=True)  # the table says why
    kinds = means["kind"].where(means["kind"] != "setting", means["mask_source"])
    means = means.assign(kind=kinds, seeds=[[] for _ in kinds])[kinds.isin(KINDS)]
    means["colour"] = None
    for results in several:
        of_it = means["features"] == results.spec.features
        means.loc[of_it, "kind"] = kinds_of(results, means[of_it])
        means.loc[of_it, "colour"] = means.loc[of_it, "label"].map(colours_of(results))
    panels = [(name, rows) for name, rows in means.groupby("features", sort=False)]
    heights = [0.8 + height(rows) for _, rows in panels]
    figure = plt.figure(figsize=(PAGE, 0.6 + sum(heights)), layout="constrained")
    parts = figure.subfigures(len(panels), height_ratios=heights, squeeze=False)[:, 0]
    for part, (name, rows) in zip(parts, panels, strict=True):
        part.suptitle(name, fontsize=8)
        draw_points(part, rows)
    legend_below(figure, seeds_note(means, points=False))
    return figure


def joined_table(several: Sequence[Results]) -> tuple[pd.DataFrame, Printed]:
    """The rows of each results folder below those of the one before, with their ``features``."""
    made = [MAKERS[results.spec.table.kind](results) for results in several]
    specs = [results.spec for results in several]
    tidy = pd.concat(
        [table.assign(features=spec.features) for spec, (table, _) in zip(specs, made, strict=True)]
    )
    rows, groups, compared, eligible = [], [], [], []
    for spec, (_, printed) in zip(specs, made, strict=True):
        first = [spec.features] + [""] * (len(printed.rows) - 1)
        rows += [{"features": name} | row for name, row in zip(first, printed.rows, strict=True)]
        groups += [spec.features] * len(printed.rows)
        compared += printed.comparison[1]
        eligible += printed.comparison[2]
    headings = dict.fromkeys(name for _, printed in made for name in printed.heading)
    reading = made[0][1].caption.removeprefix(specs[0].caption()).removesuffix(several[0].credits)
    setups = dict.fromkeys(spec.setup for spec in specs)
    credits = dict.fromkeys(results.credits for results in several if results.credits)
    caption = " ".join([f"{specs[0].table.caption}.", *setups, reading.strip(), *credits])
    joined = Printed(caption, ["features", *headings], rows, groups, left=1 + made[0][1].left)
    columns = dict.fromkeys(name for _, printed in made for name in printed.comparison[0])
    joined.embolden(list(columns), compared, eligible)
    return tidy, joined
