import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmqsa.errors import InputError
from mmqsa.reporting.results import of_first_protocol
from mmqsa.reporting.statistics import spread
from mmqsa.reporting.style import (
    drawn_interval,
    errorbars,
    legend_below,
    save,
    seeds_note,
    style,
    title,
)


def means(**values):
    """Means of a percentage over seeds, as figures draw them, at x = 0, 1, …"""
    rows = [
        {"x": x, "metric": "mbo_c", "seed": seed, "value": value}
        for x, of_seeds in enumerate(values.values())
        for seed, value in enumerate(of_seeds)
    ]
    return spread(pd.DataFrame(rows), ["x", "metric"])


@pytest.mark.parametrize(
    "values, said",
    [
        (
            {"a": [50, 51, 52]},
            "bars: 95 % interval (Student's) of the mean over n = 3 training seeds",
        ),
        ({"a": [50, 51, 52], "b": [50] * 5}, "over n = 3–5 training seeds; small"),
        ({"a": [50, 51, 52], "b": [50]}, "over n = 1–3 training seeds (none where n < 3); small"),
        ({"a": [50, 99, 99]}, "over n = 3 training seeds, cut where the scale ends; small"),
        ({"a": [50, 51]}, "means over n = 2 training seeds; small points: single seeds"),
        ({"a": [50]}, "one training seed each"),
    ],
)
def test_a_figure_names_its_intervals(values, said):
    note = seeds_note(means(**values))
    assert said in note and ("single seeds" in note) == (note != "one training seed each")
    assert ("bars" in note) == (len(values["a"]) > 2)


def test_bars_stay_on_the_scale_and_on_the_axis():
    _, axis = plt.subplots()
    errorbars(axis, "x", means(a=[1, 20, 40], b=[99, 60, 90], c=[5, 9]), 2, "line", 3)
    (bars,) = axis.containers[0].lines[2]
    ends = np.array([segment[:, 1] for segment in bars.get_segments() if len(segment)])
    assert ends[0, 0] == 0 and ends[1, 1] == 100  # 20 and 83 less and more some 50
    assert len(ends) == 2 or np.isnan(ends[2]).all()  # 2 seeds have no interval
    low, high = axis.get_ylim()
    assert low < 0 and high > 100  # whole caps and markers
    points = axis.get_lines()[-1].get_xydata().tolist()
    assert len(points) == 8 and [2.0, 5.0] in points
    assert drawn_interval(means(a=[1, 20, 40]).assign(metric="fg_ari"))[0] > 40  # has no end at 0
    plt.close("all")


@pytest.mark.parametrize("values, ends", [([40, 50, 60], (25.2, 74.8)), ([50], (50, 50))])
def test_an_axis_holds_the_bars_of_lines_that_stand_aside(values, ends):
    _, axis = plt.subplots()
    for index in (0, 1):
        errorbars(axis, "x", means(a=values, b=values), index, "line", 2)
    (low, high), (first, last) = axis.get_ylim(), axis.get_xlim()
    assert low < ends[0] and ends[1] < high and first < 0 and 1 < last < 2
    plt.close("all")


def test_one_mean_is_no_line():
    _, axis = plt.subplots()
    errorbars(axis, "x", means(a=[1, 2, 3]), 0, "one")
    errorbars(axis, "x", means(a=[1, 2, 3], b=[1, 2, 3]), 1, "two")
    assert [one.lines[0].get_linestyle() for one in axis.containers] == ["None", "--"]
    plt.close("all")


def test_a_legend_is_no_wider_than_its_figure():
    with style():
        figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
        for index in range(8):
            axis.plot([0, 1], label=f"a label that is rather long for a legend, {index}")
        legend_below(figure)
        assert 0.6 < figure.legends[0].get_window_extent().width / figure.bbox.width <= 1
    plt.close("all")


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
            errorbars(axis, "x", means(a=[1, 2, 3], b=[2, 3, 4]), index, f"line {index}")
        legend_below(figure, "a note")
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels[0] == "line 0" and labels[-1] == "a control"
        assert figure.legends[0].get_title().get_text() == "a note"
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
