import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmqsa.errors import InputError
from mmqsa.reporting.style import errorbars, legend_below, of_first_protocol, save, style, title


def test_headings_have_superscripts():
    assert title("mbo_c") == "mBO$^c$" and title("corloc") == "CorLoc"


def test_the_papers_protocol_comes_first():
    rows = pd.DataFrame(
        {"protocol": ["boxes", "paper", "paper"], "metric": ["corloc", "mbo_c", "corloc"]}
    )
    shown, names = of_first_protocol(rows)
    assert set(shown["protocol"]) == {"paper"} and names == ["corloc", "mbo_c"]
    assert of_first_protocol(rows[:1])[1] == ["corloc"]


def test_a_legend_names_what_was_measured_first(tmp_path):
    with style():
        figure, axis = plt.subplots(layout="constrained")
        axis.axhline(1, label="a control")
        for index in range(12):  # more lines than markers, dashes or colours
            errorbars(axis, pd.Series([1.0, 2.0]), 0.1, index, f"line {index}")
        legend_below(figure, axis)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels[0] == "line 0" and labels[-1] == "a control"
        pdf, png = save(figure, tmp_path / "f")
    assert pdf.read_bytes()[:4] == b"%PDF" and b"Software" not in png.read_bytes()
    assert b"CreationDate" not in pdf.read_bytes()
    assert plt.rcParams["font.size"] == plt.rcParamsDefault["font.size"]  # style() ends


def theirs(path):
    """A figure of another program, with its name and the date in it."""
    plt.figure().savefig(path, dpi=200)
    plt.close()


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, write",
    [
        ("f.png", theirs),
        ("f.pdf", theirs),
        (
            "f.png",
            lambda path: Image.fromarray(np.ones((9, 9), np.uint8)).save(path, dpi=(200, 200)),
        ),
        ("f.png", lambda path: Image.new("RGBA", (9, 9)).save(path)),
        ("f.pdf", lambda path: path.write_text("%PDF-1.4")),
        ("f.png", lambda path: path.mkdir()),
        ("f.png", lambda path: path.symlink_to(path)),
        ("f.pdf", os.mkfifo),
    ],
)
def test_only_figures_of_its_own_are_replaced(tmp_path, name, write):
    with style():
        paths = save(plt.figure(), tmp_path / "f")
        before = [path.read_bytes() for path in paths]
        assert [path.read_bytes() for path in save(plt.figure(), tmp_path / "f")] == before
    (tmp_path / name).unlink()
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{tmp_path / name}: exists and is no figure of mmqsa"):
        save(plt.figure(), tmp_path / "f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.pdf", "f.png"]
    plt.close("all")


@pytest.mark.faults
@pytest.mark.parametrize("name", ["", ".", "..", "a/.."])
def test_a_figure_has_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="names no figure"):
        save(plt.figure(), Path(name))
    plt.close("all")


@pytest.mark.faults
def test_a_label_that_is_no_formula(tmp_path):
    with style():
        figure, axis = plt.subplots(layout="constrained")
        axis.set_title("$a^$")
        with pytest.raises(InputError, match=r"in a label is no formula; write \\\$"):
            save(figure, tmp_path / "f")
    assert not list(tmp_path.iterdir()) and not plt.get_fignums()
