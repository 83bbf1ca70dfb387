import re
import shutil
import subprocess

import pytest

from mmqsa.reporting.typeset import Printed, mean_sd, to_html, to_latex, to_markdown, unescaped

HEADING = ["", "masks", "updates", "mBO^c", "said"]
ROWS = [
    ["Ours", "a_b", "1,600", "9.5 ± 10.4", "+1.0 [-1, 3] *"],
    ["95 % interval", "", "", "[-3.0, 22.0]", ""],
    ["Theirs {x} ~ $1 \\", "", "200", "12.5", "≥ 2 #"],
    ["Absent", "", "", "missing", ""],
    ["A control", "", "", "99.0", ""],
]


def printed(rows, compared, caption="", heading=HEADING, eligible=None, **other):
    cells = [dict(zip(heading, row, strict=True)) for row in rows]
    table = Printed(caption, heading, cells, other.pop("groups", compared), **other)
    table.embolden(heading[2:4], compared, eligible or [True] * len(rows))
    return table


@pytest.fixture
def table():
    compared = ["ours"] * 4 + ["others"]
    groups = ["ours"] * 4 + ["control"]
    return printed(ROWS, compared, "100 % of <it> & more: mBO^c", groups=groups, left=2)


def test_the_best_of_what_is_compared_is_bold(table):
    bold = table.bold.stack()
    assert list(bold[bold].index) == [(0, "updates"), (2, "mBO^c")]  # 99.0 is on others
    text = to_markdown(table)
    assert "**1,600**" in text and "**12.5**" in text and " 99.0 |" in text
    tie = printed(
        [["a", "", "1.0", ""], ["b", "", "1.0", ""], ["c", "", "0.5", ""]],
        ["g"] * 3,
        heading=HEADING[:4],
    )
    assert tie.bold["updates"].tolist() == [True, True, False]
    assert not printed([["a", "", "1.0", ""]], ["g"], heading=HEADING[:4]).bold.any(axis=None)


def test_nothing_is_bold_beside_a_higher_number():
    rows = [["a", "", "1.0", ""], ["b", "", "2.0", ""], ["c", "", "0.5", ""]]

    def bold(**other):
        return printed(rows, other.pop("compared", ["g"] * 3), heading=HEADING[:4], **other).bold

    assert bold()["updates"].tolist() == [False, True, False]
    assert not bold(eligible=[True, False, True]).any(axis=None)
    assert not bold(compared=["g", "", "g"], eligible=[True, False, True]).any(axis=None)
    rows[1][2] = "0.9"  # with every row: also with the one that is alone on its images
    alone = bold(compared=["g", "", "h"], eligible=[True, False, True])
    assert alone["updates"].tolist() == [True, False, False]


def test_numbers_are_aligned_by_siunitx(table):
    text = to_latex(table)
    assert r"{llS[table-format=4.0]S[table-format=2.1(3)]r}" in text
    assert r"\bfseries 1600 & 9.5 \pm 10.4 & +1.0 [-1, 3] *" in text
    assert r"{[-3.0, 22.0]}" in text and r"{missing}" in text  # no numbers: centred


def test_rules_stand_between_groups(table):
    assert to_latex(table).count(r"\midrule") == 2  # and below the heading
    assert "\\midrule\nA control" in to_latex(table)
    page = to_html(table)
    assert "#T_table_row4_col0" in page and "#T_table_row1_col0" not in page
    assert "border-top: 1px" in page and "font-weight: bold" in page


def test_what_latex_and_html_would_read_otherwise_is_escaped(table):
    text = to_latex(table)
    for escaped in (r"100 \%", "$<$it$>$", r"\& more", r"a\_b", r"\{x\}", r"\$1", r"$\geq$ 2 \#"):
        assert escaped in text
    assert "{mBO$^{c}$}" in text and r"\textbackslash{}" in text
    page = to_html(table)
    assert "&lt;it&gt; &amp; more" in page and "<it>" not in page


@pytest.mark.parametrize("text", ["a|b", "a\\", "**a**", "<b>a</b>", r"\|", r"a\\|**", "*"])
def test_a_cell_of_markdown_is_read_back_as_it_was(text):
    """Also in bold; and a bracket at the start of a row is no option of LaTeX's."""
    table = printed([[text, "", "2.0", ""], ["b", "", "1.0", ""]], ["g"] * 2, heading=HEADING[:4])
    row = to_markdown(table).splitlines()[-2]
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert unescaped(cells[0]) == text and cells[2] == "**2.0**"
    assert "\n{}[a]" in to_latex(printed([["[a]", "", "1", ""]], ["g"], heading=HEADING[:4]))


def test_long_cells_become_paragraphs():
    text = to_latex(printed([["a", "b" * 60, "", "", ""]], [""], left=2))
    assert r"{lp{6cm}rrr}" in text


def test_a_table_without_rows_is_set():
    empty = printed([], [])
    assert "mBO^c" in to_markdown(empty) and r"\bottomrule" in to_latex(empty) and to_html(empty)


def test_mean_and_sd():
    assert mean_sd(1234.56, 7.891) == "1,234.6 ± 7.9" and mean_sd(2.0, float("nan"), 0) == "2"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles_alone(tmp_path, table):
    (tmp_path / "table.tex").write_text(to_latex(table))
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and (tmp_path / "table.pdf").stat().st_size > 5000, done.stdout
    assert "Overfull" not in done.stdout and "too large" not in done.stdout
