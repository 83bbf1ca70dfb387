"""A table for people: Markdown, LaTeX that compiles alone, and a page for the report."""

import html
import re
from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd


@dataclass
class Printed:
    """Cells as they stand in print; a row's ``groups`` entry says what a line is drawn between.

    ``bold`` are the (row, column) of what is best.
    """

    caption: str
    heading: list[str]
    rows: list[list[str]]
    groups: list[str]
    left: int = 1  # columns of words, set flush left
    bold: set[tuple[int, int]] = field(default_factory=set)

    def embolden(self, columns: list[int], compared: list[str]) -> None:
        """Make the highest number of each of ``columns`` bold, among the rows that ``compared``
        calls the same; an empty name stands apart.
        """
        for column in columns:
            for name in set(compared) - {""}:
                own = [index for index, called in enumerate(compared) if called == name]
                values = {index: _leading(self.rows[index][column]) for index in own}
                found = {index: value for index, value in values.items() if value is not None}
                if len(found) > 1:
                    best = max(found.values())
                    self.bold |= {(i, column) for i, value in found.items() if value == best}


_NUMBER = re.compile(r"([+-]?\d[\d,]*)(?:\.(\d+))?(?: ± (\d+)(?:\.(\d+))?)?")


def _leading(cell: str) -> float | None:
    found = _NUMBER.fullmatch(cell)
    return float(cell.split(" ± ")[0].replace(",", "")) if found else None


def to_markdown(table: Printed) -> str:
    rows = [
        [f"**{cell}**" if (i, j) in table.bold else cell for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    frame = pd.DataFrame(rows, columns=table.heading)
    aligned = ["left"] * table.left + ["right"] * (len(table.heading) - table.left)
    text = frame.to_markdown(index=False, disable_numparse=True, colalign=aligned)
    return f"{table.caption}\n\n{text}\n"


_ESCAPED = {"%": r"\%", "&": r"\&", "_": r"\_", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$"}
_ESCAPED |= {">": "$>$", "<": "$<$", "^": r"\textasciicircum{}", "–": "--", "−": "$-$"}
_ESCAPED |= {"#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_ESCAPE = str.maketrans(_ESCAPED)


def to_latex(table: Printed) -> str:
    """A booktabs table in a document that compiles alone; numbers stand under their points."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.heading)
    numeric = [index >= table.left and _is_numeric(cells) for index, cells in enumerate(columns)]

    def line(row: int) -> str:
        cells = []
        for column, cell in enumerate(table.rows[row]):
            bold = r"\bfseries " if (row, column) in table.bold else ""
            if not numeric[column]:
                cells.append(bold + _mathematical(cell.translate(_ESCAPE)))
            elif _NUMBER.fullmatch(cell):
                cells.append(bold + cell.replace(",", "").replace("±", r"\pm"))
            else:
                cells.append(f"{{{cell.translate(_ESCAPE)}}}")
        return " & ".join(cells) + r" \\"

    body = [line(row) for row in range(len(table.rows))]
    for index in reversed([i for i, (one, two) in enumerate(pairwise(table.groups)) if one != two]):
        body.insert(index + 1, r"\midrule")
    layout = [
        _format(cells) if number else _words(cells, index < table.left)
        for index, (cells, number) in enumerate(zip(columns, numeric, strict=True))
    ]
    height = max(21.0, 6 + 0.4 * sum(_lines(row) for row in table.rows))  # cm
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{booktabs, siunitx}",
            rf"\usepackage[margin=1cm, paperwidth=29.7cm, paperheight={height:.1f}cm]{{geometry}}",
            r"\sisetup{separate-uncertainty=true, detect-all, retain-zero-uncertainty=true,",
            r"  group-separator={,}, group-minimum-digits=4}",
            r"\pagestyle{empty}",
            r"\begin{document}",
            r"\begin{table}",
            r"\centering\scriptsize",
            rf"\caption{{{_mathematical(table.caption.translate(_ESCAPE))}}}",
            rf"\begin{{tabular}}{{{''.join(layout)}}}",
            r"\toprule",
            " & ".join(f"{{{_mathematical(own.translate(_ESCAPE))}}}" for own in table.heading)
            + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            r"\end{document}",
            "",
        ]
    )


_LONG = 40  # characters; a column of longer ones is a paragraph


def _is_numeric(cells: tuple[str, ...]) -> bool:
    """Numbers, with words or what stands in brackets between them."""
    others = [cell for cell in cells if not _NUMBER.fullmatch(cell) and not cell.startswith("[")]
    numbers = any(map(_NUMBER.fullmatch, cells))
    return numbers and not any(letter.isdigit() for cell in others for letter in cell)


def _format(cells: tuple[str, ...]) -> str:
    """The column of siunitx that these numbers need."""
    found = [match for match in map(_NUMBER.fullmatch, cells) if match]
    whole = max(len(match[1].replace(",", "").lstrip("+-")) for match in found)
    decimals = max(len(match[2] or "") for match in found)
    uncertain = max(len((match[3] or "").lstrip("0")) + len(match[4] or "") for match in found)
    sign = "+" if any(match[1][0] in "+-" for match in found) else ""
    spread = f"({uncertain})" if uncertain else ""
    return f"S[table-format={sign}{whole}.{decimals}{spread}]"


def _words(cells: tuple[str, ...], left: bool) -> str:
    longest = max(map(len, cells), default=0)
    if longest > _LONG:
        return r"p{6cm}"
    return "l" if left else "r"


def _lines(row: list[str]) -> int:
    return max(-(-len(cell) // 50) for cell in [*row, " "])


def _mathematical(text: str) -> str:
    for letter in "ci":
        text = text.replace(rf"mBO\textasciicircum{{}}{letter}", f"mBO$^{letter}$")
    return text


_STYLE = """
body {font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222}
caption {text-align: left; max-width: 60rem; margin-bottom: .8rem; color: #444}
table {border-collapse: collapse; border-bottom: 2px solid #222}
th, td {padding: .2rem .7rem; text-align: right; white-space: nowrap}
th {border-top: 2px solid #222; border-bottom: 1px solid #222}
.words {text-align: left} .long {white-space: normal; min-width: 20rem}
.line td {border-top: 1px solid #999}
"""


def to_html(table: Printed, title: str) -> str:
    """A page that needs nothing else, for the report."""
    rows = [_html_row("th", table.heading, table.left, set(), "")]
    for index, row in enumerate(table.rows):
        new = index and table.groups[index] != table.groups[index - 1]
        bold = {column for own, column in table.bold if own == index}
        rows.append(_html_row("td", row, table.left, bold, ' class="line"' if new else ""))
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">',
            f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>",
            f"<table>\n<caption>{html.escape(table.caption)}</caption>",
            *rows,
            "</table>\n</html>\n",
        ]
    )


def _html_row(tag: str, cells: list[str], left: int, bold: set[int], attributes: str) -> str:
    found = []
    for index, cell in enumerate(cells):
        names = ["words"] * (index < left) + ["words long"] * (len(cell) > _LONG)
        text = html.escape(cell)
        text = f"<b>{text}</b>" if index in bold else text
        found.append(f'<{tag} class="{" ".join(names)}">{text}</{tag}>')
    return f"<tr{attributes}>{''.join(found)}</tr>"
