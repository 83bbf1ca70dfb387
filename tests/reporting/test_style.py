import matplotlib.pyplot as plt
import pandas as pd

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
