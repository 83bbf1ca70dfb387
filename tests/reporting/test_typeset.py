import shutil
import subprocess

import pytest

from mmqsa.reporting.typeset import Printed, to_html, to_latex, to_markdown

TABLE = Printed(
    caption="100 % of <it> & more: mBO^c",
    heading=["", "masks", "updates", "mBO^c", "said"],
    rows=[
        ["Ours", "a_b", "1,600", "9.5 ± 10.4", "+1.0 [-1, 3] *"],
        ["  95 % interval", "", "", "[-3.0, 22.0]", ""],
        ["Theirs {x} ~ $1", "", "200", "12.5", "≥ 2 #"],
        ["Absent", "", "", "missing", ""],
        ["A control", "", "", "99.0", ""],
    ],
    groups=["own", "own", "own", "own", "control"],
    left=2,
)
TABLE.embolden([2, 3], ["own", "", "own", "own", ""])


def test_the_best_of_what_is_compared_is_bold():
    assert TABLE.bold == {(0, 2), (2, 3)}  # 12.5, not the control's 99.0
    text = to_markdown(TABLE)
    assert "**1,600**" in text and "**12.5**" in text and " 99.0 |" in text
    tie = Printed("", ["", "x"], [["a", "1.0"], ["b", "1.0"], ["c", "0.5"]], ["g"] * 3)
    tie.embolden([1], ["g"] * 3)
    assert tie.bold == {(0, 1), (1, 1)}
    alone = Printed("", ["", "x"], [["a", "1.0"]], ["g"])
    alone.embolden([1], ["g"])
    assert not alone.bold


def test_numbers_stand_under_their_points():
    text = to_latex(TABLE)
    assert r"{llS[table-format=4.0]S[table-format=2.1(3)]r}" in text
    assert r"\bfseries 1600 & 9.5 \pm 10.4 & +1.0 [-1, 3] *" in text
    assert r"{[-3.0, 22.0]}" in text and r"{missing}" in text  # no numbers: centred
    assert text.count(r"\midrule") == 2


def test_what_latex_and_html_would_read_otherwise_is_escaped():
    text = to_latex(TABLE)
    for escaped in (r"100 \%", "$<$it$>$", r"\& more", r"a\_b", r"\{x\}", r"\$1", r"$\geq$ 2 \#"):
        assert escaped in text
    assert "{mBO$^c$}" in text
    page = to_html(TABLE, "T")
    assert "&lt;it&gt; &amp; more" in page and page.count('class="line"') == 1
    assert page.count("<tr") == 6


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles_alone(tmp_path):
    (tmp_path / "table.tex").write_text(to_latex(TABLE))
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and (tmp_path / "table.pdf").stat().st_size > 5000, done.stdout
    assert "Overfull" not in done.stdout and "too large" not in done.stdout
