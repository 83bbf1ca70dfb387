"""The same table of two results folders, and the premises of their backbones."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made import Made

from mmqsa.cli import application
from mmqsa.config.files import dump_yaml, read_yaml
from mmqsa.errors import InputError
from mmqsa.paths import Paths
from mmqsa.reporting.join import joined_figure, joined_table, results_of
from mmqsa.reporting.premise import SCORE_TITLES
from mmqsa.reporting.results import Results, load_spec, read_published
from mmqsa.reporting.tables import make_table


@pytest.fixture
def folders(tmp_path):
    """Specs of the table ``made`` in two folders; the second has another backbone and metric."""
    specs = []
    for index, name in enumerate(("one", "two")):
        made = Made(tmp_path / name)
        made.config["backbone"] = {"name": "vit_tiny_patch16_224", "title": f"Backbone {name}"}
        made.config["seeds"] = [0, 1, 2]
        for seed in (0, 1, 2):
            made.metrics("full", seed, made.scores(50.0 + index, "corloc", *["mbo_c"][:index]))
            made.metrics("random", seed, made.scores(40.0 + index, "corloc"))
        premise = {"score": list(SCORE_TITLES), "auc_per_image": [0.1, 0.9], "ratio": 0.7}
        premise |= {"auc_pooled": 0.5, "background_shows": 60.0 + index, "background_hides": 20.0}
        premise |= {"all_object": 33.0, "position_variance": 4.0, "n_images": 3}
        made.write(made.paths.reference("voc2012-val", "premise"), premise)
        bins = {"low": [-1, 0] * 2, "high": [0, 1] * 2, "background": [1, 3] * 2}
        bins |= {"score": [name for name in SCORE_TITLES for _ in range(2)], "object": [2, 0] * 2}
        made.write(made.paths.reference("voc2012-val", "premise", "histogram"), bins)
        spec = made.paths.stage_config("tables/made")
        spec.parent.mkdir(parents=True)
        made.results()
        (made.paths.results / "spec.yaml").rename(spec)
        specs.append(str(spec))
    return specs


def rows(path):
    return [line.split("|")[1:-1] for line in path.read_text().splitlines() if line[:1] == "|"][2:]


def test_one_block_for_each_folder(folders, tmp_path):
    out = tmp_path / "out"
    application.app(["join", *folders, "--out", str(out)], standalone_mode=False)
    tidy = pd.read_csv(out / "tables/made.csv")
    corloc = tidy[tidy["metric"] == "corloc"]
    assert corloc["features"].tolist() == ["Backbone one, key"] * 2 + ["Backbone two, key"] * 2
    assert corloc["mean"].tolist() == [50.0, 40.0, 51.0, 41.0]
    assert (out / "figures/made-controls.png").stat().st_size > 5000
    text = (out / "tables/made.md").read_text()
    assert text.count("Backbone one, key. ") == text.count("Backbone two, key. ") == 1  # caption
    first, _, third, _ = rows(out / "tables/made.md")
    assert first[0].strip() == "Backbone one, key" and third[0].strip() == "Backbone two, key"
    assert "**" not in first[4] and "**51.0 ± 0.0**" in third[4]  # best of both, on the same images
    assert not first[-1].strip() and "51.0" in third[-1]  # the metric that the first has not


def test_every_row_of_the_joined_figure_is_named(folders):
    several = [load_results(spec) for spec in folders]
    figure = joined_figure(joined_table(several)[0], several)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["decoder masks"]
    note = figure.legends[0].get_title().get_text()
    assert note == "bars: 95 % interval (Student's) of the mean over n = 3 training seeds"
    plt.close("all")


def test_the_joined_figure_names_methods_without_why_they_are_listed(folders):
    several = [load_results(spec) for spec in folders]
    for results in several:
        made = Made(results.paths.results)
        cuts = [(2, "cut, K = 2", 30.0), (5, "cut, K = 5", 20.0)]
        rows = [
            row | {"name": name, "num_slots": num_slots}
            for num_slots, name, value in cuts
            for row in made.scores(value, "corloc")
        ]
        made.references("normalised-cut", rows)
    tidy, _ = joined_table(several)
    assert tidy["label"].str.contains("its best").any()
    named = [name.get_text() for name in joined_figure(tidy, several).axes[0].get_yticklabels()]
    assert named == ["full", "random", "cut, K = 2"]
    plt.close("all")


def test_the_premises_beside_each_other(folders, tmp_path):
    out = tmp_path / "out"
    application.app(["join", *folders, "--out", str(out)], standalone_mode=False)
    assert pd.read_csv(out / "tables/premise.csv")["background_shows"].tolist() == [60, 60, 61, 61]
    cells = [[cell.strip() for cell in row] for row in rows(out / "tables/premise.md")]
    assert [row[:3] for row in cells] == [
        ["Backbone one, key", "mean feature", "0.10"],
        ["", "principal component", "0.90"],
        ["Backbone two, key", "mean feature", "0.10"],
        ["", "principal component", "0.90"],
    ]
    assert (out / "figures/premise-histogram.pdf").is_file()


def test_a_folder_without_a_premise_is_left_out(folders, tmp_path):
    for path in (tmp_path / "one/controls").iterdir():
        path.unlink()
    application.app(["join", *folders, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert len(rows(tmp_path / "out/tables/premise.md")) == 2
    for path in (tmp_path / "two/controls").iterdir():
        path.unlink()
    application.app(["join", *folders, "--out", str(tmp_path / "none")], standalone_mode=False)
    assert not (tmp_path / "none/tables/premise.md").exists()
    assert (tmp_path / "none/tables/made.md").exists()


@pytest.mark.faults
def test_joined_again_onto_itself(folders, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        application.app(["join", *folders, "--out", str(out)], standalone_mode=False)
        first = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert first == {path: path.read_bytes() for path in out.rglob("*.*")} and len(first) == 12


@pytest.mark.faults
def test_a_folder_with_other_results_stays(folders, tmp_path):
    def refused(said):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
        with pytest.raises(InputError, match=said):
            application.app(["join", *folders, "--out", str(out)], standalone_mode=False)
        assert before == {path: path.read_bytes() for path in before}

    out = tmp_path / "one"  # one of those that are joined
    refused("has config, so it holds no joined tables")
    out = tmp_path / "plain"
    make_table(replace(load_results(folders[0]), paths=Paths(out)))
    refused(r"made\.csv: no joined table; it stays")
    (out / "runs").mkdir()
    refused("has runs, so it holds no joined tables")


@pytest.mark.faults
def test_specs_that_make_no_table_together(folders, tmp_path, monkeypatch):
    def refused(said, *specs):
        with pytest.raises(InputError, match=said):
            application.app(["join", *specs, "--out", str(tmp_path / "out")], standalone_mode=False)
        assert not (tmp_path / "out").exists()

    refused("has the features of .*, so their rows would be alike", *folders, folders[0])
    (tmp_path / "x.yaml").write_bytes(Path(folders[0]).read_bytes())
    refused(r"x\.yaml: no spec of a results folder", folders[0], str(tmp_path / "x.yaml"))
    monkeypatch.chdir(tmp_path)
    refused("no spec of a results folder", "x.yaml")
    for kind in ("compute", "diagnosis", "provenance", "claims", "strata", "comparisons"):
        spec = read_yaml(folders[1])
        spec["table"]["kind"] = kind
        Path(folders[1]).write_text(dump_yaml(spec))
        refused(f"the table made is one of {kind}; expected metrics", *folders)


@pytest.mark.faults
@pytest.mark.parametrize(
    "old, new, said",
    [
        ("mean,", "sum,", "unknown score 'sum'"),
        ("auc_per_image", "auc", "it has no column auc_per_image"),
        ("principal-component", "mean", "row 3 repeats another"),
        ("0.9", "9", "auc_per_image is 9.0, which is not a number from 0 to 1"),
    ],
)
def test_a_damaged_premise_is_named(folders, tmp_path, old, new, said):
    path = tmp_path / "one/controls/voc2012-val-premise.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=f"{path}: .*{said}"):
        application.app(["join", *folders, "--out", str(tmp_path / "out")], standalone_mode=False)


@pytest.mark.faults
def test_a_premise_has_every_score(folders, tmp_path):
    path = tmp_path / "one/controls/voc2012-val-premise-histogram.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(InputError, match=f"{path}: has no score principal-component"):
        application.app(["join", *folders, "--out", str(tmp_path / "out")], standalone_mode=False)


def load_results(spec):
    return Results(load_spec(Path(spec)), Paths(results_of(Path(spec))), read_published())
