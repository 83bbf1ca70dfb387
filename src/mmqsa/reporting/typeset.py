"""A table for people: Markdown, and LaTeX that compiles alone."""

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd


@dataclass
class Printed:
    """Cells as they stand in print; a row's ``groups`` entry says what a line is drawn between."""

    caption: str
    heading: list[str]
    rows: list[list[str]]
    groups: list[str]
    left: int = 1  # columns of words, set flush left


def to_markdown(table: Printed) -> str:
    frame = pd.DataFrame(table.rows, columns=table.heading)
    aligned = ["left"] * table.left + ["right"] * (len(table.heading) - table.left)
    text = frame.to_markdown(index=False, disable_numparse=True, colalign=aligned)
    return f"{table.caption}\n\n{text}\n"


_ESCAPED = {"%": r"\%", "&": r"\&", "_": r"\_", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$"}
_ESCAPED |= {">": "$>$", "<": "$<$", "^": r"\textasciicircum{}", "–": "--", "−": "$-$"}


def to_latex(table: Printed) -> str:
    """A booktabs table in a document that compiles alone."""
    escape = str.maketrans(_ESCAPED)

    def line(cells: list[str]) -> str:
        return " & ".join(cell.translate(escape) for cell in cells) + r" \\"

    heading = line(table.heading)
    for letter in "ci":
        heading = heading.replace(rf"mBO\textasciicircum{{}}{letter}", f"mBO$^{letter}$")
    body = [line(row) for row in table.rows]
    for index in reversed([i for i, (one, two) in enumerate(pairwise(table.groups)) if one != two]):
        body.insert(index + 1, r"\midrule")
    columns = "l" * table.left + "r" * (len(table.heading) - table.left)
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{booktabs}",
            r"\usepackage[margin=1cm, landscape]{geometry}",
            r"\begin{document}",
            r"\begin{table}",
            r"\centering\scriptsize",
            rf"\caption{{{table.caption.translate(escape)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            heading,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            r"\end{document}",
            "",
        ]
    )
