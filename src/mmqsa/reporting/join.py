"""The same table of several results folders as one, and what their backbones are like."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmqsa.paths import Paths
from mmqsa.reporting.premise import premise_figure, premise_table
from mmqsa.reporting.results import Results
from mmqsa.reporting.style import save, style
from mmqsa.reporting.tables import MAKERS, write_table
from mmqsa.reporting.typeset import Printed


def join(several: Sequence[Results], out: Path) -> list[Path]:
    """Write the joined table, their premises as a table and as a figure to ``out``."""
    paths = Paths(out)
    written = write_table(paths, several[0].spec.name, *joined_table(several))
    table, printed = premise_table(several)
    if len(table):
        written += write_table(paths, "premise", table, printed)
        with style():
            stem = paths.figure("premise", "histogram", "png").with_suffix("")
            written += save(premise_figure(several), stem)
    return written


def joined_table(several: Sequence[Results]) -> tuple[pd.DataFrame, Printed]:
    """The rows of each results folder below those of the one before, with their ``features``."""
    made = [MAKERS[results.spec.table.kind](results) for results in several]
    specs = [results.spec for results in several]
    tidy = pd.concat(
        [table.assign(features=spec.features) for spec, (table, _) in zip(specs, made, strict=True)]
    )
    rows, groups, bold = [], [], []
    for spec, (_, printed) in zip(specs, made, strict=True):
        first = [spec.features] + [""] * (len(printed.rows) - 1)
        rows += [{"features": name} | row for name, row in zip(first, printed.rows, strict=True)]
        groups += [spec.features] * len(printed.rows)
        bold.append(printed.bold)
    headings = dict.fromkeys(name for _, printed in made for name in printed.heading)
    reading = made[0][1].caption.removeprefix(specs[0].caption())
    setups = dict.fromkeys(spec.setup for spec in specs)
    caption = " ".join([f"{specs[0].table.caption}.", *setups, reading.strip()])
    joined = Printed(caption, ["features", *headings], rows, groups, left=1 + made[0][1].left)
    bold = [frame.reindex(columns=joined.heading, fill_value=False) for frame in bold]
    joined.bold = pd.concat(bold, ignore_index=True)
    return tidy, joined
