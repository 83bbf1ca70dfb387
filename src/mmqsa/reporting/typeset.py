"""Tables for people: Markdown, LaTeX that compiles alone, and HTML for the report."""

import html
import re
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

NUMBER = r"^([+-])?([\d,]+)(?:\.(\d+))?(?: ± ([\d.]+))?$"  # sign, whole, decimals, std
LONG = 40  # characters; a column with longer cells is set as paragraphs


@dataclass
class Printed:
    """A table's cells as text, a dict per row; an absent cell is empty.

    A rule separates rows whose ``groups`` differ. The first ``left`` columns are words, flush left.
    """

    caption: str
    heading: list[str]
    rows: list[dict[str, str]]
    groups: list[str]
    left: int = 1
    cells: pd.DataFrame = field(init=False)
    bold: pd.DataFrame = field(init=False)
    comparison: tuple[list[str], list[str | None], list[bool]] = field(init=False)
    """columns, and of each row what it is compared with and whether it may be bold"""

    def __post_init__(self) -> None:
        self.cells = pd.DataFrame(self.rows, columns=self.heading, dtype=str).fillna("")
        self.bold = pd.DataFrame(False, self.cells.index, self.heading)
        self.comparison = [], [""] * len(self.rows), [False] * len(self.rows)

    def embolden(
        self, columns: list[str], compared: list[str | None], eligible: list[bool]
    ) -> None:
        """Set the highest number of each column in bold, among rows with the same ``compared``.

        A row with an empty one is compared with every row, one with None with no other. Nothing is
        bold where the highest is in a row that is not ``eligible``, or stands alone.
        """
        self.comparison = columns, compared, eligible
        names = pd.Series(compared, dtype=str)
        for column in columns:
            cells = self.cells[column].where(self.cells[column].str.match(NUMBER), "")
            values = pd.to_numeric(cells.str.split(" ± ").str[0].str.replace(",", ""))
            rows, others = values.groupby(names), values[names == ""]
            best = (values == rows.transform("max")) & ~(values < others.max())
            alone = rows.transform("count") + (names != "") * others.count() < 2
            self.bold[column] = best & ~alone & np.array(eligible, dtype=bool)

    @property
    def first_rows(self) -> list[int]:
        """The rows that begin a group, but for the first."""
        return [row for row, (one, two) in enumerate(pairwise(self.groups), 1) if one != two]

    def styler(self, cells: pd.DataFrame) -> Styler:
        """``cells`` with this table's bold ones, and rules between groups (HTML alone)."""
        css = pd.DataFrame("", cells.index, cells.columns)
        css = css.mask(self.bold.to_numpy(), "font-weight: bold;")
        css.iloc[self.first_rows] += "border-top: 1px solid #999;"
        # An id that pandas draws at random would change the file's bytes.
        styler = Styler(cells, uuid="table", cell_ids=False).hide()
        return styler.apply(lambda _: css, axis=None)


def mean_sd(mean: float, sd: float, digits: int = 1) -> str:
    """``mean ± sd``; the mean alone where ``sd`` is NaN."""
    return f"{mean:,.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")


def over_n_seeds(counts: pd.Series) -> str:
    """How a caption goes on about means over so many training seeds; empty without any."""
    if not counts.max() > 0:
        return ""
    return (
        ", mean ± sd over n training seeds" if counts.max() > 1 else ", of one training seed each"
    )


def duration(seconds: float) -> str:
    """40 s, 12 minutes, 4.1 hours."""
    unit, size = time_unit(seconds)
    return f"{seconds / size:.{int(size == 3600)}f} {unit}"


def time_unit(seconds: float) -> tuple[str, int]:
    """The unit to print a time in, and its seconds: the largest of which there are two."""
    units = {"hours": 3600, "minutes": 60, "s": 1}
    return next(unit for unit in units.items() if seconds >= 2 * unit[1] or unit[1] == 1)


def to_markdown(table: Printed) -> str:
    """The caption and a pipe table."""
    cells = table.cells.map(_escaped).rename(columns=_escaped)
    cells = cells.mask(table.bold.to_numpy(), "**" + cells + "**")
    aligned = ["left"] * table.left + ["right"] * (len(table.heading) - table.left)
    text = cells.to_markdown(index=False, disable_numparse=True, colalign=aligned)
    return f"{table.caption}\n\n{text}\n"


def _escaped(text: str) -> str:
    """A cell of a pipe table, whatever its characters mean in Markdown."""
    return re.sub(r"\\|\||\*\*|<(?=[A-Za-z/!])", lambda found: rf"\{found[0]}", text)


def unescaped(text: str) -> str:
    """What such a cell says."""
    return re.sub(r"\\(\\|\||\*\*|<)", r"\1", text)


DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs, siunitx}
\usepackage[margin=1cm, paperwidth=32cm, paperheight=%.1fcm]{geometry}
\sisetup{separate-uncertainty=true, detect-all, retain-zero-uncertainty=true,
  group-separator={,}, group-minimum-digits=4}
\pagestyle{empty}
\AddToHook{env/tabular/begin}{\scriptsize}
\begin{document}
%s\end{document}
"""
ESCAPED: dict[str, str | int | None] = {character: f"\\{character}" for character in "%&_#${}"}
ESCAPED |= {"±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$"}
ESCAPED |= {">": "$>$", "<": "$<$", "–": "--"}
ESCAPED |= {"†": r"$\dagger$", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}


def to_latex(table: Printed) -> str:
    """A booktabs table in a document that compiles alone; siunitx aligns its numbers."""
    columns, formats = {}, []
    for index, (name, column) in enumerate(table.cells.items()):
        numbers, text = column.str.extract(NUMBER), column.map(_latex)
        numeric = numbers[1].notna() & (index >= table.left)
        if numeric.any():
            _, *digits = numbers.fillna("").agg(lambda part: part.str.count(r"\d").max())
            sign = "+" if numbers[0].notna().any() else ""
            formats.append("S[table-format={}{}.{}({})]".format(sign, *digits).replace("(0)", ""))
            plain = column.str.replace(",", "").str.replace("±", r"\pm")
            text = plain.where(numeric, "{" + text + "}")
        else:
            long = column.str.len().max() > LONG
            formats.append("p{6cm}" if long else "l" if index < table.left else "r")
        columns[_latex(name)] = text
    cells = pd.DataFrame(columns)
    first = cells.iloc[:, 0]  # after the end of a row, a bracket would say how far the next one is
    cells.iloc[:, 0] = first.mask(first.str.startswith("["), "{}" + first)
    cells.iloc[table.first_rows, 0] = "\\midrule\n" + cells.iloc[table.first_rows, 0]
    body = table.styler(cells).to_latex(
        column_format="".join(formats),
        caption=_latex(table.caption),
        position_float="centering",
        hrules=True,
        siunitx=True,
        convert_css=True,
    )
    lines = sum(max(1 + len(cell) // 50 for cell in row) for row in table.cells.to_numpy())
    return DOCUMENT % (max(21, 6 + 0.4 * lines), body)


def _latex(text: str) -> str:
    """``text`` escaped; ``mBO^c`` has a superscript."""
    return re.sub(r"\^(\w?)", r"$^{\1}$", text.translate(str.maketrans(ESCAPED)))


def to_html(table: Printed) -> str:
    """A page that needs nothing else, for the report."""
    words = f"th:nth-child(-n+{table.left}), td:nth-child(-n+{table.left})"
    styles = {
        "": "font: 14px system-ui, sans-serif; border-collapse: collapse; border-bottom: 2px solid",
        "caption": "text-align: left; max-width: 60rem; margin-bottom: .8rem",
        "th, td": "padding: .2rem .7rem; text-align: right",
        "th": "border: solid; border-width: 2px 0 1px",
        words: "text-align: left",
    }
    styler = table.styler(table.cells).format(escape="html").format_index(escape="html", axis=1)
    styler = styler.set_caption(html.escape(table.caption)).set_table_styles(
        [{"selector": selector, "props": props} for selector, props in styles.items()]
    )
    return styler.to_html(doctype_html=True)
