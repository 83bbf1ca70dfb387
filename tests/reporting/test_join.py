"""The same table of two results folders, and the premises of their backbones."""

import pandas as pd
import pytest
from made import Made

from mmqsa.cli import application
from mmqsa.reporting.premise import SCORE_TITLES


@pytest.fixture
def folders(tmp_path):
    """Specs of the table ``made`` in two folders; the second has another backbone and metric."""
    specs = []
    for index, name in enumerate(("one", "two")):
        made = Made(tmp_path / name)
        made.config["backbone"] = {"name": "vit_tiny_patch16_224", "title": f"Backbone {name}"}
        for seed in (0, 1):
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
    assert "**50.0 ± 0.0**" in first[4] and "**51.0 ± 0.0**" in third[4]  # best of its own block
    assert not first[-1].strip() and "51.0" in third[-1]  # the metric that the first has not


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
