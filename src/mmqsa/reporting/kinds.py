"""What a row of a table, or a point of a figure, is of: its name and its look."""

import pandas as pd

from mmqsa.reporting.results import SOURCES, Results

OF_OTHER_CODE = "0.15"  # colour of a method of other code that has none of its own
# What a point is of: mask source of a setting, or kind of reference -> name, colour, marker.
KINDS = {
    "decoder": (SOURCES["decoder"], "C0", "o"),
    "attention": (SOURCES["attention"], "C1", "s"),
    "decoder-masks": (SOURCES["decoder-masks"], "C2", "v"),
    "other": ("of other code", OF_OTHER_CODE, "^"),
    "method": ("without training", "C3", "D"),
    "supervised": ("sees labels", "C4", "P"),
    "control": ("looks at no image", "C5", "X"),
}


def kinds_of(results: Results, references: pd.DataFrame) -> pd.Series:
    """One of KINDS for each row: a method of other code may have been trained."""
    other = references["label"].isin(list(results.methods)) & (references["kind"] == "method")
    return references["kind"].mask(other, "other")


def colours_of(results: Results) -> dict[str, str]:
    """By its title, the colour of each method of other code that has one."""
    records = results.methods.items()
    return {title: record.colour for title, record in records if record.colour}
