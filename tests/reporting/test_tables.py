import subprocess
import sys

import pytest

from mmqsa.reporting.tables import MAKERS, make_table


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_to_show_is_shown_as_missing(made, kind):
    claims = [{"says": "so", "source": "here", "order": ["random", "full"]}]
    paths = make_table(made.results(kind=kind, claims=claims))
    assert [path.name for path in paths] == ["made.csv", "made.md", "made.tex", "made.html"]
    texts = [path.read_text() for path in paths]
    absent = {"claims": "not enough runs", "diagnosis": "not measured"}
    assert all(absent.get(kind, "missing") in text for text in texts[1:])
    assert r"\bottomrule" in texts[2] and "http" not in texts[3]  # a page that opens offline


def test_tables_are_the_same_bytes_again(made):
    made.metrics("full", 0, made.scores(50.0, "corloc"))
    paths = make_table(made.results(published=["paper"]))
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in make_table(made.results(published=["paper"]))]
    assert b"50.0000" in first[0] and b"\r" not in first[0]


def test_tables_import_nothing_that_draws():
    """A table starts by itself: of its seconds seaborn and scipy.stats once took more than half."""
    heavy = ("matplotlib", "seaborn", "scipy.stats", "torch", "sklearn")
    code = f"import mmqsa.reporting.tables, sys; print([x for x in {heavy} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
